"""One conformance suite for the id store in memory and on disk; then what only a disk can do."""

from __future__ import annotations

import hashlib
import multiprocessing as mp
import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from quality_service.entries import (
    CONFLICT,
    ENTRY,
    NO_OFFSET,
    Keys,
    Records,
    State,
    Writes,
    conflict_keys,
    event_keys,
    from_hex,
)
from quality_service.lmdb_store import LmdbStore, LmdbStores
from quality_service.memory_store import MemoryStores
from quality_service.store import IdStore, Progress, StoreError, StoreFull, Stores

SIZE = 1 << 26


@pytest.fixture(params=["memory", "lmdb"])
def stores(request: pytest.FixtureRequest, tmp_path: Path) -> Stores:
    return MemoryStores() if request.param == "memory" else LmdbStores(tmp_path, max_bytes=SIZE)


@pytest.fixture
def reopen(stores: Stores) -> Iterator[Callable[[], IdStore]]:
    """Opens the same store, closing it first where it is open."""
    held: list[IdStore] = []

    def again() -> IdStore:
        for store in held:
            store.close()
        held[:] = [stores.open("topic", 1)]
        return held[0]

    yield again
    for store in held:
        store.close()


def keys(*names: str) -> Keys:
    found = event_keys(pl.Series(names, dtype=pl.String))
    return found[np.argsort(found)]


def entries(count: int, **fields: object) -> Records:
    rows = np.zeros(count, dtype=ENTRY)
    rows["state"] = State.ACCEPTED
    rows["hash"] = from_hex(pl.Series(["0123456789abcdef" * 2] * count, dtype=pl.String))
    for name, value in fields.items():
        rows[name] = value
    return rows


def writes(names: Keys, rows: Records) -> Writes:
    none = Writes.none()
    return Writes(names, rows, none.conflict_keys, none.conflicts)


def test_new_store_knows_nothing(reopen: Callable[[], IdStore]) -> None:
    store = reopen()
    assert store.progress() is None
    assert store.look_up(keys("a", "b"))["state"].tolist() == [State.NONE, State.NONE]
    assert store.count() == 0


def test_written_entries_are_found_after_reopening_and_others_are_not(reopen: Callable[[], IdStore]) -> None:
    rows = entries(2, offset=[7, 2**40])
    reopen().apply(writes(keys("a", "b"), rows), Progress(-1, 8))
    store = reopen()
    assert store.progress() == Progress(-1, 8)
    assert store.count() == 2
    found = store.look_up(keys("a", "b", "c", "d"))
    by_key = dict(zip(keys("a", "b", "c", "d").tolist(), found, strict=True))
    for key, row in zip(keys("a", "b").tolist(), rows, strict=True):
        assert by_key[key] == row
    assert sum(row["state"] == State.NONE for row in found) == 2


def test_entry_is_replaced_and_keeps_what_it_replaced(reopen: Callable[[], IdStore]) -> None:
    store = reopen()
    store.apply(writes(keys("a"), entries(1, state=State.REJECTED, offset=3)), Progress(0, 4))
    newer = entries(1, offset=9, prev_state=State.REJECTED, prev_hash=b"h" * 16, prev_offset=3)
    store.apply(writes(keys("a"), newer), Progress(4, 10))
    assert reopen().look_up(keys("a")).tolist() == newer.tolist()
    assert reopen().count() == 1


@pytest.mark.parametrize("hash_", [b"\x00" * 16, b"a" + b"\x00" * 15, b"\x00" * 15 + b"a"])
def test_zero_bytes_survive(reopen: Callable[[], IdStore], hash_: bytes) -> None:
    row = entries(1, hash=hash_, offset=0)
    key = np.array([hash_], dtype="S16")
    pair = conflict_keys(key, key)
    conflicts = np.array([(0, 5)], dtype=CONFLICT)
    reopen().apply(Writes(key, row, pair, conflicts), Progress(0, 1))
    store = reopen()
    assert store.look_up(key).tolist() == row.tolist()
    assert store.look_up_conflicts(pair).tolist() == [(0, 5)]


def test_conflicts_are_found_by_id_and_hash(reopen: Callable[[], IdStore]) -> None:
    ids, hashes = keys("a", "b"), keys("x", "y")
    pairs = conflict_keys(ids, hashes)
    rows = np.array([(11, 3), (12, 4)], dtype=CONFLICT)
    none = Writes.none()
    reopen().apply(Writes(none.keys, none.entries, pairs, rows), Progress(0, 13))
    asked = np.concatenate([conflict_keys(ids, hashes[::-1].copy()), pairs[::-1]])
    found = reopen().look_up_conflicts(asked)
    assert found["offset"].tolist() == [NO_OFFSET, NO_OFFSET, 12, 11]
    assert found["accepted"].tolist()[2:] == [4, 3]


def test_batch_without_changes_moves_the_progress(reopen: Callable[[], IdStore]) -> None:
    store = reopen()
    store.apply(Writes.none(), Progress(5, 9))
    assert reopen().progress() == Progress(5, 9)


def test_partitions_and_topics_are_apart(stores: Stores) -> None:
    first, second, third = stores.open("t", 0), stores.open("t", 1), stores.open("u", 0)
    first.apply(writes(keys("a"), entries(1)), Progress(0, 1))
    assert second.look_up(keys("a"))["state"].tolist() == [State.NONE]
    assert third.progress() is None
    for store in (first, second, third):
        store.close()


@settings(deadline=None)
@given(st.lists(st.text(max_size=50), unique=True, max_size=20))
def test_keys_of_different_ids_differ_and_are_the_first_half_of_sha256(ids: list[str]) -> None:
    found = event_keys(pl.Series(ids, dtype=pl.String))
    assert [key.ljust(16, b"\x00") for key in found.tolist()] == [
        hashlib.sha256(i.encode()).digest()[:16] for i in ids
    ]


def test_slices_of_hex_columns_are_read_from_where_they_begin() -> None:
    digits = pl.Series([f"{i:032x}" for i in range(10)])
    assert from_hex(digits[4:7]).view("V16").tolist() == [i.to_bytes(16, "big") for i in (4, 5, 6)]


def test_second_holder_is_refused_and_told_to_stop_the_first(tmp_path: Path) -> None:
    store = LmdbStore(tmp_path, max_bytes=SIZE)
    with pytest.raises(StoreError, match="another process"):
        LmdbStore(tmp_path, max_bytes=SIZE, lock_timeout_s=0.0)
    store.close()
    LmdbStore(tmp_path, max_bytes=SIZE, lock_timeout_s=0.0).close()


def test_full_store_says_which_setting_to_raise(tmp_path: Path) -> None:
    store = LmdbStore(tmp_path, max_bytes=1 << 16)
    many = np.sort(np.frombuffer(np.random.default_rng(1).bytes(16 * 20_000), dtype="S16"))
    with pytest.raises(StoreError, match="ID_STORE_MAX_BYTES"):
        store.apply(writes(many, entries(20_000)), Progress(0, 1))
    assert store.count() == 0
    store.close()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can mount a small disk")
def test_full_disk_is_said_leaves_all_as_it_was_and_is_over_when_there_is_room(tmp_path: Path) -> None:
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "test", str(tmp_path)], check=True)
    try:
        store = LmdbStore(tmp_path, max_bytes=1 << 30)
        store.apply(writes(keys("a"), entries(1, offset=1)), Progress(0, 2))
        many = np.sort(np.frombuffer(np.random.default_rng(1).bytes(16 * 20_000), dtype="S16"))
        with pytest.raises(StoreFull, match="no space left on the disk"):
            store.apply(writes(many, entries(20_000)), Progress(2, 3))
        assert (store.count(), store.progress()) == (1, Progress(0, 2))
        subprocess.run(["mount", "-o", "remount,size=64m", str(tmp_path)], check=True)
        store.apply(writes(many, entries(20_000)), Progress(2, 3))
        assert (store.count(), store.progress()) == (20_001, Progress(2, 3))
        store.close()
    finally:
        subprocess.run(["umount", str(tmp_path)], check=True)


def test_broken_file_is_refused_with_the_way_out(tmp_path: Path) -> None:
    (tmp_path / "data.mdb").write_bytes(b"no database" * 1000)
    with pytest.raises(StoreError, match="Move this folder away"):
        LmdbStore(tmp_path, max_bytes=SIZE)


def _write_and_die(path: Path) -> None:
    store = LmdbStore(path, max_bytes=SIZE)
    store.apply(writes(keys("a"), entries(1, offset=1)), Progress(0, 2))
    mp.current_process().kill()


def test_what_was_applied_survives_a_kill(tmp_path: Path) -> None:
    process = mp.get_context("spawn").Process(target=_write_and_die, args=(tmp_path,))
    process.start()
    process.join(30)
    store = LmdbStore(tmp_path, max_bytes=SIZE)
    assert store.progress() == Progress(0, 2)
    assert store.look_up(keys("a"))["offset"].tolist() == [1]
    store.close()


def test_bytes_per_id_are_known(tmp_path: Path) -> None:
    store = LmdbStore(tmp_path, max_bytes=SIZE)
    rng = np.random.default_rng(7)
    for batch in range(10):
        many = np.sort(np.frombuffer(rng.bytes(16 * 2_000), dtype="S16"))
        store.apply(writes(many, entries(2_000, offset=batch)), Progress(batch, batch + 1))
    assert 40 < store.size_bytes() / store.count() < 200
    store.close()
