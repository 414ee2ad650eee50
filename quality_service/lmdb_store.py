"""The id store on disk: one LMDB environment for each raw partition.

Durability. The environment is opened with `sync` and without `writemap`: a commit flushes the data pages and
then writes the page that makes them current, so that at any instant the file holds one whole batch or the
one before. `sync=False` followed by an explicit sync saves nothing here, because there is one transaction a
batch, and it lets the kernel write that page first: a power cut could then leave a broken tree.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import struct
import time
from pathlib import Path
from typing import IO, Any, Final

import lmdb
import numpy as np

from quality_service.entries import (
    CONFLICT,
    ENTRY,
    ENTRY_BYTES,
    KEY,
    Keys,
    Records,
    Writes,
    no_conflicts,
    no_entries,
)
from quality_service.store import IdStore, Progress, StoreError, StoreFull

_FORMAT: Final = b"1"
_PROGRESS: Final = struct.Struct("<qq")
# More than one batch writes: 10,000 new ids touch some thousand pages of 4 KiB.
_ROOM_BYTES: Final = 64 << 20


class LmdbStore:
    """`path` is the folder of one partition. `max_bytes` bounds the file, which grows as it is used."""

    def __init__(self, path: Path, *, max_bytes: int, lock_timeout_s: float = 15.0) -> None:
        path.mkdir(parents=True, exist_ok=True)
        self._path = path
        self._lock = _take(path / "owner", lock_timeout_s)
        try:
            self._env = lmdb.open(
                str(path), map_size=max_bytes, max_dbs=3, readahead=False, meminit=False, mode=0o600
            )
            self._entries = self._env.open_db(b"entries")
            self._conflicts = self._env.open_db(b"conflicts")
            self._meta = self._env.open_db(b"meta")
            self._check_format()
        except lmdb.Error as e:
            self._lock.close()
            raise StoreError(
                f"id store {path}: {e}. Move this folder away: it is then restored from the decisions topic."
            ) from e

    def _check_format(self) -> None:
        with self._env.begin(write=True, db=self._meta) as txn:
            found = txn.get(b"format")
            if found is None:
                txn.put(b"format", _FORMAT)
            elif found != _FORMAT:
                raise StoreError(
                    f"id store {self._path} has format {found!r}, this version writes {_FORMAT!r}. Move the "
                    "folder away: it is then restored from the decisions topic."
                )

    def progress(self) -> Progress | None:
        with self._env.begin(db=self._meta) as txn:
            found = txn.get(b"progress")
        return None if found is None else Progress(*_PROGRESS.unpack(found))

    def look_up(self, keys: Keys) -> Records:
        rows = no_entries(len(keys))
        with self._env.begin() as txn:
            found = txn.cursor(self._entries).getmulti(_whole(keys))
        if found:
            names, values = zip(*found, strict=True)
            place = np.searchsorted(keys, np.array(names, dtype=KEY))
            # Entries are stored without their trailing zeros; numpy pads them again.
            rows[place] = np.array(values, dtype=ENTRY_BYTES).view(ENTRY)
        return rows

    def look_up_conflicts(self, keys: Keys) -> Records:
        rows = no_conflicts(len(keys))
        with self._env.begin(db=self._conflicts) as txn:
            for i, key in enumerate(_whole(keys)):
                value = txn.get(key)
                if value is not None:
                    rows[i] = np.frombuffer(value, dtype=CONFLICT)[0]
        return rows

    def apply(self, writes: Writes, progress: Progress) -> None:
        entries = zip(_whole(writes.keys), writes.entries.view(ENTRY_BYTES).tolist(), strict=True)
        conflicts = zip(_whole(writes.conflict_keys), _whole(writes.conflicts), strict=True)
        try:
            with self._env.begin(write=True) as txn:
                txn.cursor(self._entries).putmulti(list(entries), dupdata=False)
                txn.cursor(self._conflicts).putmulti(list(conflicts), dupdata=False)
                txn.put(b"progress", _PROGRESS.pack(*progress), db=self._meta)
        except lmdb.MapFullError as e:
            raise StoreError(
                f"id store {self._path} reached its bound of {self._env.info()['map_size']} bytes; raise "
                "TILLSTREAM_ID_STORE_MAX_BYTES."
            ) from e
        except lmdb.Error as e:
            # LMDB calls a write that the disk cut short an I/O error, so that the disk must be asked.
            free = shutil.disk_usage(self._path).free
            if free < _ROOM_BYTES:
                raise StoreFull(
                    f"no space left on the disk of the id store {self._path}: {free // 1024} KiB are free. "
                    "Make room; quality then goes on by itself."
                ) from e
            raise StoreError(f"id store {self._path} cannot be written: {e}") from e

    def count(self) -> int:
        with self._env.begin() as txn:
            return int(txn.stat(self._entries)["entries"])

    def size_bytes(self) -> int:
        with self._env.begin() as txn:
            stats = [txn.stat(db) for db in (self._entries, self._conflicts)]
        return sum(s["psize"] * (s["branch_pages"] + s["leaf_pages"] + s["overflow_pages"]) for s in stats)

    def close(self) -> None:
        self._env.close()
        self._lock.close()


class LmdbStores:
    """Stores under `root`, one folder `<topic id>-<partition>` each."""

    def __init__(self, root: Path, *, max_bytes: int) -> None:
        self._root = root
        self._max_bytes = max_bytes

    def open(self, topic_id: str, partition: int) -> IdStore:
        return LmdbStore(self._root / f"{topic_id}-{partition}", max_bytes=self._max_bytes)


def _whole(items: Records) -> list[Any]:
    """Each item as bytes, trailing zeros included."""
    whole: list[Any] = np.ascontiguousarray(items).view(f"V{items.dtype.itemsize}").tolist()
    return whole


def _take(path: Path, timeout_s: float) -> IO[bytes]:
    """Hold `path` for this process alone. LMDB itself would let two processes write in turn, and one that
    lost its partition without knowing it could then spoil the state of its successor."""
    handle = path.open("ab")
    deadline = time.monotonic() + timeout_s
    while True:
        with contextlib.suppress(BlockingIOError):
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return handle
        if time.monotonic() > deadline:
            handle.close()
            raise StoreError(
                f"id store {path.parent} is held by another process (this is {os.getpid()}); stop that one."
            )
        time.sleep(0.05)
