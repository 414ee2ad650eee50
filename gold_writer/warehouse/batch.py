"""What one write to the warehouse consists of. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from streamkit.ports import TopicPartition

if TYPE_CHECKING:
    from gold_writer.warehouse.dimensions import Versions


@dataclass(frozen=True, slots=True)
class Move:
    """A partition's position, the next record to read, goes from `expected` to `following`."""

    partition: TopicPartition
    topic_id: str
    expected: int
    following: int


@dataclass(frozen=True, slots=True)
class Rows:
    """Rows for one staging table, as CSV."""

    csv: bytes
    count: int


@dataclass(frozen=True, slots=True)
class Sales(Rows):
    """Facts, and the distinct `date_keys` (yyyymmdd) that they need calendar rows and partitions for."""

    date_keys: Sequence[int]


@dataclass(frozen=True, slots=True)
class Write:
    """Everything that one transaction stores. `sales` or `quarantine` is None where there is none.
    `versions`: of dimensions, at most one of each table."""

    moves: Sequence[Move]
    sales: Sales | None = None
    quarantine: Rows | None = None
    versions: Sequence[Versions] = ()


@dataclass(frozen=True, slots=True)
class Position:
    """What `ops.stream_offsets` says about a partition."""

    topic_id: str
    next_offset: int


@dataclass(slots=True)
class Positions:
    """The positions that this process believes to be stored. Forgotten when that belief is in doubt."""

    known: dict[TopicPartition, Position] = field(default_factory=dict)

    def moves(self, following: Mapping[TopicPartition, int]) -> list[Move]:
        """Raises `KeyError` for a partition that was never loaded."""
        return [
            Move(tp, self.known[tp].topic_id, self.known[tp].next_offset, offset)
            for tp, offset in sorted(following.items())
        ]

    def moved(self, moves: Sequence[Move]) -> None:
        for move in moves:
            self.known[move.partition] = Position(move.topic_id, move.following)
