"""A partition's log with transactions: what is visible to a read-committed reader, and where it ends."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import Enum
from itertools import islice

from streamkit.ports import Headers, TopicPartition


class TransactionState(Enum):
    OPEN = "open"
    COMMITTED = "committed"
    ABORTED = "aborted"


@dataclass(eq=False, slots=True)
class Transaction:
    """One transaction of one producer: the partitions it wrote to and the group offsets it carries."""

    opened_ms: int
    state: TransactionState = TransactionState.OPEN
    partitions: set[TopicPartition] = field(default_factory=set)
    offsets: list[tuple[str, dict[TopicPartition, int]]] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Record:
    offset: int
    timestamp_ms: int
    key: bytes | None
    value: bytes | None
    headers: Headers
    transaction: Transaction | None = None


class PartitionLog:
    """An offset is an index into the log; a transaction marker takes one too (None)."""

    def __init__(self) -> None:
        self._entries: list[Record | None] = []
        self._begins: dict[Transaction, int] = {}

    @property
    def high_watermark(self) -> int:
        return len(self._entries)

    @property
    def last_stable_offset(self) -> int:
        """The first record of the oldest open transaction, else the end."""
        self._begins = {t: o for t, o in self._begins.items() if t.state is TransactionState.OPEN}
        return min(self._begins.values(), default=self.high_watermark)

    def append(
        self,
        key: bytes | None,
        value: bytes | None,
        headers: Headers,
        timestamp_ms: int,
        transaction: Transaction | None,
    ) -> None:
        if transaction is not None:
            self._begins.setdefault(transaction, self.high_watermark)
        self._entries.append(
            Record(self.high_watermark, timestamp_ms, key, value, tuple(headers), transaction)
        )

    def append_marker(self) -> None:
        self._entries.append(None)

    def read(self, offset: int, limit: int) -> list[Record]:
        """Committed records from `offset` on, up to `limit` and to the last stable offset."""
        visible: list[Record] = []
        for entry in islice(self._entries, offset, self.last_stable_offset):
            if len(visible) >= limit:
                break
            if entry is not None and _is_committed(entry):
                visible.append(entry)
        return visible


def _is_committed(record: Record) -> bool:
    return record.transaction is None or record.transaction.state is TransactionState.COMMITTED


def fit(records: Sequence[Record], max_bytes: int, taken_bytes: int) -> int:
    """How many of `records` fit beside `taken_bytes`; the first of all always does."""
    for count, record in enumerate(records):
        taken_bytes += len(record.value or b"")
        if taken_bytes > max_bytes and count > 0:
            return count
    return len(records)
