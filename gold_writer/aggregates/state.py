"""The totals of the assigned shards, in memory; the compacted topic is where they are kept.

Protocol, for each batch (a `streamkit.ports.Participant`):

1. `advance` adds what the batch changes to the committed totals and holds the sums aside. The committed ones
   stay as they are, so the batch can be processed again.
2. The runner produces the sums, as absolute values, in the transaction that carries the input offsets.
3. It commits: sums and offsets become visible together, or neither does.
4. `after_commit` puts the held sums into place; `after_abort` forgets them.

There is nothing to make durable before 3: where the process dies, the next one reads the topic (`restore`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import repeat
from typing import Final

import numpy as np

from gold_writer.aggregates.changelog import Changelog
from gold_writer.aggregates.restore import restore
from gold_writer.aggregates.totals import WIDTH, Rows, added, zeros
from streamkit.clock import Clock
from streamkit.ports import TopicPartition

_FIRST_ROWS: Final = 1024


class Shard:
    """Totals by key. A key costs its bytes, an entry of a dict and a row of 48 bytes."""

    def __init__(self) -> None:
        self._row_of: dict[bytes, int] = {}
        self._rows = zeros(_FIRST_ROWS)

    def __len__(self) -> int:
        return len(self._row_of)

    def get(self, keys: Sequence[bytes]) -> Rows:
        """Shape (len(keys), WIDTH); zeros for a key that is not there."""
        places = np.fromiter(map(self._row_of.get, keys, repeat(-1)), np.int64, len(keys))
        found = zeros(len(keys))
        known = places >= 0
        found[known] = self._rows[places[known]]
        return found

    def put(self, keys: Sequence[bytes], totals: Rows) -> None:
        """Set absolute totals; of a key that stands twice, the last ones."""
        row_of = self._row_of
        for key in keys:
            row_of.setdefault(key, len(row_of))
        if len(row_of) > len(self._rows):
            grown = np.zeros((max(2 * len(self._rows), len(row_of)), WIDTH), dtype=np.int64)
            grown[: len(self._rows)] = self._rows
            self._rows = grown
        places = np.fromiter(map(row_of.__getitem__, keys), np.int64, len(keys))
        self._rows[places] = totals


@dataclass(slots=True)
class _Slot:
    shard: Shard
    held: tuple[Sequence[bytes], Rows] | None = None


class AggregateState:
    """Used by the runner's thread alone; `sizes` may be asked by any."""

    def __init__(self, changelog: Changelog, clock: Clock) -> None:
        self._changelog = changelog
        self._clock = clock
        self._slots: dict[int, _Slot] = {}

    def advance(self, partition: int, keys: Sequence[bytes], changes: Rows) -> Rows:
        """The totals of `keys` with `changes` added, held until the commit. Keys are distinct.

        One call a partition and transaction. Raises KeyError for a partition that is not assigned.
        """
        slot = self._slots[partition]
        if slot.held is not None:
            raise RuntimeError(f"shard {partition} was advanced twice in one transaction")
        totals = added(slot.shard.get(keys), changes)
        slot.held = keys, totals
        return totals

    def assigned(self, offsets: Mapping[TopicPartition, int | None]) -> None:
        for tp, committed in sorted(offsets.items()):
            shard = Shard()
            restore(shard, self._changelog, partition=tp.partition, committed=committed, clock=self._clock)
            self._slots = {**self._slots, tp.partition: _Slot(shard)}

    def revoked(self, partitions: Sequence[TopicPartition]) -> None:
        gone = {tp.partition for tp in partitions}
        self._slots = {number: slot for number, slot in self._slots.items() if number not in gone}

    def before_commit(self, next_offsets: Mapping[TopicPartition, int]) -> None:
        """Nothing: see the module."""

    def after_commit(self, next_offsets: Mapping[TopicPartition, int]) -> None:
        for tp in next_offsets:
            # Gone where a rebalance came between an unanswered commit and the news that it had happened.
            slot = self._slots.get(tp.partition)
            if slot is not None and slot.held is not None:
                slot.shard.put(*slot.held)
                slot.held = None

    def after_abort(self) -> None:
        for slot in self._slots.values():
            slot.held = None

    def sizes(self) -> dict[int, int]:
        """Windows kept, by shard."""
        return {number: len(slot.shard) for number, slot in self._slots.items()}
