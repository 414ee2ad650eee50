"""The port of the id store: what quality remembers of one raw partition, durably.

A store belongs to one process at a time. It keeps entries, conflicts and the progress of its last batch;
it does not know which attempts were committed to Kafka: `decide.effective` and `state.py` judge that from
the offsets kept here.
"""

from __future__ import annotations

from typing import NamedTuple, Protocol

from quality_service.entries import Keys, Records, Writes


class Progress(NamedTuple):
    """Of the last batch written: the committed offset from which it was read, and the next raw offset."""

    begin: int
    next: int


class StoreError(Exception):
    """The store cannot be used; the message says what to do."""


class StoreFull(StoreError):  # noqa: N818 - reads as what happened
    """The disk had no room for it. Nothing was written, and the same call may succeed later."""


class IdStore(Protocol):
    def progress(self) -> Progress | None:
        """None for a store in which nothing was ever written."""

    def look_up(self, keys: Keys) -> Records:
        """One row of ENTRY for each of `keys` (16 bytes, ascending, unique); state NONE where absent."""

    def look_up_conflicts(self, keys: Keys) -> Records:
        """One row of CONFLICT for each of `keys` (32 bytes, any order); offset NO_OFFSET where absent."""

    def apply(self, writes: Writes, progress: Progress) -> None:
        """Write all of it or nothing, and return once it would survive a power cut. Raises `StoreFull`."""

    def count(self) -> int:
        """Event ids remembered."""

    def size_bytes(self) -> int:
        """Bytes that the entries and their index occupy; 0 where that is unknown."""

    def close(self) -> None: ...


class Stores(Protocol):
    """Opens the store of a partition; creates it where there is none."""

    def open(self, topic_id: str, partition: int) -> IdStore:
        """Raises `StoreError`, for one when another process holds it."""
