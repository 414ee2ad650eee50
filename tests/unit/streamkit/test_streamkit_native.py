"""The native library: builds without a warning, and its columns and headers agree with Python's."""

from __future__ import annotations

import random
import subprocess
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from native import build, library
from streamkit.columns import BinaryColumn, binary_series, take
from streamkit.headers import header_column, ingest_ts_ms
from streamkit.kafka.clients import chosen
from streamkit.packed_headers import PackedHeaders, pack, unpack
from streamkit.ports import Headers, RecordBatch

_NAMES = st.one_of(
    st.sampled_from(["ingest-ts", "load-id", "ü", ""]),
    st.binary(max_size=4).map(lambda name: name.replace(b"\0", b"").decode(errors="surrogateescape")),
)
_HEADERS = st.lists(st.tuples(_NAMES, st.none() | st.binary(max_size=20)), max_size=6)


@pytest.fixture(autouse=True, scope="module")
def _built() -> None:
    build.build()


def test_sources_compile_without_a_warning(tmp_path: Path) -> None:
    sources = sorted(map(str, build.SOURCES.glob("*.c")))
    compiler = build.compiler()
    assert compiler is not None
    command = [compiler, *build.FLAGS, "-Werror", "-o", str(tmp_path / "x.so"), *sources, *build.LIBRARIES]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_a_missing_compiler_is_named_with_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(build, "target", lambda: tmp_path / "absent.so")
    monkeypatch.setenv("CC", "no-such-compiler")
    with pytest.raises(build.BuildError, match="apt-get install"):
        build.build()


def test_native_is_refused_and_auto_falls_back_where_the_library_is_missing(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for cached in (library.load, library.load_with_kafka, chosen):
        cached.cache_clear()
    with monkeypatch.context() as patched:
        patched.setattr(build, "target", lambda: tmp_path / "absent.so")
        assert chosen("auto") == "python"
        with pytest.raises(library.NativeUnavailable, match=r"python -m native\.build"):
            chosen("native")
    chosen.cache_clear()
    assert chosen("auto") == "native"


@settings(deadline=None)
@given(st.lists(_HEADERS, max_size=8), st.randoms(use_true_random=False))
def test_packed_headers_read_as_the_headers_they_were_made_of(
    rows: Sequence[Headers], rng: random.Random
) -> None:
    packed = PackedHeaders.of(rows)
    assert [list(h) for h in packed] == [list(h) for h in rows]
    picked = np.array([rng.randrange(len(rows)) for _ in range(5)] if rows else [], dtype=np.int64)
    part = take(take(packed, picked), np.arange(len(picked), dtype=np.int64)[::-1])
    expected = [rows[i] for i in picked[::-1].tolist()]
    assert [list(h) for h in part] == [list(h) for h in expected]
    for name in ("ingest-ts", "ü", "absent"):
        first = [next((value for key, value in h if key == name), None) for h in expected]
        assert list(header_column(part, name)) == first


@settings(deadline=None)
@given(st.binary(max_size=64), st.integers(0, 2**32 - 1))
def test_no_bytes_make_the_library_read_outside_them(noise: bytes, count: int) -> None:
    """Whatever the bytes are, both readers agree on whether they are headers."""
    whole = pack([("a", noise)])
    for blob in (noise, count.to_bytes(4, "little") + noise, whole[:-1], whole + noise):
        packed = PackedHeaders(BinaryColumn.of([blob]))
        try:
            names = [name for name, _ in unpack(blob)]
        except ValueError:
            # Stops at the first header of the name, so it may have met it before what is broken.
            with pytest.raises(ValueError, match="no packed headers"):
                packed.values("\x01never")
        else:
            assert packed.values("\x01never") == [None]
            assert len(names) <= len(blob) // 8


@settings(deadline=None)
@given(st.lists(st.binary(max_size=17) | st.none(), max_size=20))
def test_ingest_times_are_read_as_python_reads_them(values: list[bytes | None]) -> None:
    values += [b"1700000000000", b"253402300799999", b"253402300800000", b"9" * 15, b"+1", b" 1", b"1_0", b""]
    rows = [[] if value is None else [("load-id", b"7"), ("ingest-ts", value)] for value in values]
    times = np.arange(len(rows), dtype=np.int64)
    zeros = times.astype(np.int32) * 0
    plain = RecordBatch("t", zeros, times, times, [None] * len(rows), [None] * len(rows), rows)
    packed = RecordBatch("t", zeros, times, times, plain.key, plain.value, PackedHeaders.of(rows))
    assert ingest_ts_ms(packed).tolist() == ingest_ts_ms(plain).tolist()


@settings(deadline=None)
@given(st.lists(st.binary(max_size=9) | st.none(), max_size=20), st.data())
def test_a_binary_column_reads_as_its_values(values: list[bytes | None], data: st.DataObject) -> None:
    column = BinaryColumn.of(values)
    assert column == values
    assert list(column[1:]) == values[1:]
    assert binary_series(column).to_list() == values
    rows = data.draw(st.lists(st.integers(0, len(values) - 1), max_size=9)) if values else []
    assert take(column, np.array(rows, dtype=np.int64)) == [values[i] for i in rows]
    offsets, octets, valid, bit = column[1:].parts()
    again = [
        None
        if valid is not None and not valid[(bit + i) // 8] >> (bit + i) % 8 & 1
        else octets[offsets[i] : offsets[i + 1]].tobytes()
        for i in range(len(offsets) - 1)
    ]
    assert again == values[1:]


def test_texts_become_keys_of_their_utf8() -> None:
    assert BinaryColumn.of_series(pl.Series(["ü", None, ""])) == ["ü".encode(), None, b""]
