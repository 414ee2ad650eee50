"""What is known of the records after a group's position. Pure.

Offsets alone do not tell how many records wait: transaction markers, records of aborted transactions and
those that compaction took occupy offsets too. So the records after the position are read, once, and their
offsets and times are kept: as long as the position stands still, only what was written since is read.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

_NONE = np.empty(0, dtype=np.int64)


class Window:
    """The records of one partition in the offsets [begin, end)."""

    def __init__(self, begin: int) -> None:
        self.begin = self.end = begin
        self._offsets: NDArray[np.int64] = _NONE
        self._times_ms: NDArray[np.int64] = _NONE

    @property
    def known(self) -> int:
        """Records that are kept here."""
        return len(self._offsets)

    def move(self, begin: int) -> None:
        """Begin at another offset; what lies outside of what was known is forgotten."""
        if not self.begin <= begin <= self.end:
            self.begin = self.end = begin
            self._offsets = self._times_ms = _NONE
            return
        first = int(np.searchsorted(self._offsets, begin))
        self._offsets, self._times_ms, self.begin = self._offsets[first:], self._times_ms[first:], begin

    def add(self, offsets: Sequence[int], times_ms: Sequence[int], end: int) -> None:
        """All records in [self.end, end). Those below are ignored: they are known already."""
        found = np.asarray(offsets, dtype=np.int64)
        fresh = int(np.searchsorted(found, self.end))
        self._offsets = np.concatenate([self._offsets, found[fresh:]])
        self._times_ms = np.concatenate([self._times_ms, np.asarray(times_ms, dtype=np.int64)[fresh:]])
        self.end = max(self.end, end)

    def count(self, stop: int) -> int:
        """Records in [begin, stop), and an offset for each that is not known: an upper bound."""
        return int(np.searchsorted(self._offsets, stop)) + max(stop - self.end, 0)

    def knows(self, stop: int) -> bool:
        return self.end >= stop

    def first_ms(self) -> int | None:
        """The time of the first record; None where none is known."""
        return int(self._times_ms[0]) if len(self._times_ms) else None
