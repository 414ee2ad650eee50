"""Hashes agree with Kafka's and with xxHash's published values."""

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas.hashing import murmur2_partition, murmur2_partition_series, xxhash64

# Kafka's own test: clients/src/test/java/org/apache/kafka/common/utils/UtilsTest.java, testMurmur2
KAFKA_VECTORS = {
    b"21": -973932308,
    b"foobar": -790332482,
    b"a-little-bit-long-string": -985981536,
    b"a-little-bit-longer-string": -1486304829,
    b"lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8": -58897971,
    b"abc": 479470107,
}


@pytest.mark.parametrize("partitions", [1, 3, 7, 1000, 2**31 - 1])
def test_partition_of_kafkas_own_keys_is_kafkas(partitions: int) -> None:
    expected = [(hashed & 0x7FFFFFFF) % partitions for hashed in KAFKA_VECTORS.values()]
    assert murmur2_partition(list(KAFKA_VECTORS), partitions).tolist() == expected


def test_null_key_has_no_partition_and_empty_key_has_one() -> None:
    assert murmur2_partition([None, b"", b"abc"], 7).tolist() == [-1, 0x106E08D9 % 7, 479470107 % 7]
    assert murmur2_partition([], 3).dtype == np.int32


@settings(max_examples=40, deadline=None)
@given(st.lists(st.none() | st.text(max_size=40)), st.integers(1, 50))
def test_partition_of_a_column_is_that_of_its_keys(keys: list[str | None], partitions: int) -> None:
    encoded = [None if key is None else key.encode() for key in keys]
    column = pl.Series(keys, dtype=pl.String)
    assert (
        murmur2_partition_series(column, partitions).tolist()
        == murmur2_partition(encoded, partitions).tolist()
    )


@given(st.lists(st.integers(0, 40), min_size=1, max_size=20), st.integers(1, 50))
def test_partition_of_a_key_does_not_depend_on_its_neighbours(lengths: list[int], partitions: int) -> None:
    keys = [bytes(range(length)) for length in lengths]
    alone = [murmur2_partition([key], partitions)[0] for key in keys]
    assert murmur2_partition(keys, partitions).tolist() == alone


@pytest.mark.parametrize("tail", [0, 1, 2, 3])
def test_long_key_is_hashed_as_a_short_one_is(tail: int, monkeypatch: pytest.MonkeyPatch) -> None:
    keys = [bytes(range(256)) * 5 + b"x" * tail, b"short"]
    long_way = murmur2_partition(keys, 2**31 - 1).tolist()
    monkeypatch.setattr("schemas.hashing._LONG_KEY", 10_000)
    assert murmur2_partition(keys, 2**31 - 1).tolist() == long_way


def test_xxhash64_gives_the_published_values() -> None:
    # github.com/Cyan4973/xxHash and the README of github.com/ifduyue/python-xxhash
    assert xxhash64(b"") == 0xEF46DB3751D8E999
    assert xxhash64(b"a") == 0xD24EC4F1A98C6E5B
    assert xxhash64(b"abc") == 0x44BC2CF5AD770999
    assert xxhash64(b"xxhash") == 0x32DD38952C4BC720
    assert xxhash64(b"Nobody inspects the spammish repetition") == 0xFBCEA83C8A378BF1
