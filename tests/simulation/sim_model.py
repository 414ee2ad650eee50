"""The reference model: what must have become of every raw record, in plain Python.

It reads the raw log in the order in which the broker keeps it, and knows the items by construction. Nothing
here is shared with the services.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from tests.simulation.sim_items import Item, murmur2, uuid5

Coordinates = tuple[int, int]
"""Partition and offset of a raw record."""

ACCEPTED, DUPLICATE, REJECTED, CONFLICT, REROUTED, RESOLVING = (
    "ACCEPTED", "DUPLICATE", "REJECTED", "CONFLICT", "REROUTED", "ACCEPTED_RESOLVING",
)  # fmt: skip


@dataclass(frozen=True)
class RawRecord:
    """`seq` numbers what producers sent; a rerouted copy keeps it and says where it `came_from`."""

    at: Coordinates
    item: Item
    seq: int
    came_from: Coordinates | None
    trace: str


@dataclass(frozen=True)
class Fate:
    """What must be decided about one raw record. `resolves`: the rejected record whose item is closed by
    it."""

    record: RawRecord
    outcome: str
    reason: str | None = None
    resolves: Coordinates | None = None


@dataclass
class Memory:
    """What must be remembered of an event: the state, and the content and record that decided."""

    state: str
    content: str
    at: Coordinates
    conflicts: set[str] = field(default_factory=set)


@dataclass
class Expected:
    fates: dict[Coordinates, Fate]
    memory: dict[str, Memory]
    homes: dict[str, int]

    def of(self, *outcomes: str) -> list[Fate]:
        return [fate for fate in self.fates.values() if fate.outcome in outcomes]


def item_id(topic_id: str, at: Coordinates) -> str:
    return uuid5("receipt", topic_id, str(at[0]), str(at[1]))


def expect(log: Sequence[RawRecord], partitions: int) -> Expected:
    """Decide every record of the log, partition by partition in offset order."""
    expected = Expected({}, {}, {})
    for record in sorted(log, key=lambda r: r.at):
        expected.fates[record.at] = _decide(record, partitions, expected)
    return expected


def _decide(record: RawRecord, partitions: int, expected: Expected) -> Fate:
    item, memory = record.item, expected.memory
    home = record.at[0] if item.partition_key is None else murmur2(item.partition_key, partitions)
    if home != record.at[0]:
        return Fate(record, REROUTED)
    # Unreadable bytes have no home: the same ones on two partitions are two events to their partitions.
    key = item.event_id if item.partition_key else f"{item.event_id}@{home}"
    expected.homes[key] = home
    known = memory.get(key)
    if known and known.state == ACCEPTED:
        if item.content == known.content or item.content in known.conflicts:
            return Fate(record, DUPLICATE)
        known.conflicts.add(item.content)
        return Fate(record, CONFLICT, "ID_CONFLICT")
    if item.reason is None:
        memory[key] = Memory(ACCEPTED, item.content, record.at)
        return Fate(record, RESOLVING, None, known.at) if known else Fate(record, ACCEPTED)
    if known and known.content == item.content:
        return Fate(record, DUPLICATE)
    memory[key] = Memory(REJECTED, item.content, record.at)
    return Fate(record, REJECTED, item.reason)
