"""The id store in memory: for tests, and to measure what the durable one costs."""

from __future__ import annotations

import numpy as np

from quality_service.entries import ENTRY, ENTRY_BYTES, Keys, Records, Writes, no_conflicts
from quality_service.store import IdStore, Progress


class MemoryStore:
    """Outlives `close`, as a file does."""

    def __init__(self) -> None:
        self._entries: dict[bytes, bytes] = {}
        self._conflicts: dict[bytes, np.void] = {}
        self._progress: Progress | None = None

    def progress(self) -> Progress | None:
        return self._progress

    def look_up(self, keys: Keys) -> Records:
        # An absent entry is all zeros, which is state NONE.
        found = [self._entries.get(key, b"") for key in keys.tolist()]
        rows: Records = np.array(found, dtype=ENTRY_BYTES).view(ENTRY)
        return rows

    def look_up_conflicts(self, keys: Keys) -> Records:
        rows = no_conflicts(len(keys))
        for i, key in enumerate(keys.tolist()):
            conflict = self._conflicts.get(key)
            if conflict is not None:
                rows[i] = conflict
        return rows

    def apply(self, writes: Writes, progress: Progress) -> None:
        self._entries.update(
            zip(writes.keys.tolist(), writes.entries.view(ENTRY_BYTES).tolist(), strict=True)
        )
        self._conflicts.update(zip(writes.conflict_keys.tolist(), writes.conflicts.copy(), strict=True))
        self._progress = progress

    def count(self) -> int:
        return len(self._entries)

    def size_bytes(self) -> int:
        return 0

    def close(self) -> None:
        return None


class MemoryStores:
    """One store for each topic id and partition, kept for as long as this object."""

    def __init__(self) -> None:
        self._stores: dict[tuple[str, int], MemoryStore] = {}

    def open(self, topic_id: str, partition: int) -> IdStore:
        return self._stores.setdefault((topic_id, partition), MemoryStore())
