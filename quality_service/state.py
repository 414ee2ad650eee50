"""The id stores of the assigned partitions, and how they commit with the Kafka transaction.

Protocol, for each batch; `decide.effective` and `restore` rely on this order:

1. `judge` looks ids up and decides; what follows from it is held in memory.
2. The runner produces the outputs, the decisions among them, in a Kafka transaction.
3. `before_commit` writes what was held to each store, with the batch's begin and next offset, durably.
4. The runner commits the transaction, and with it the group's offsets.
5. `after_commit` moves the position on. If 3 happened and 4 did not, `after_abort` forgets what was held; the
   store keeps entries of an attempt that did not count, which their offsets give away. So it is where the
   disk is full at 3: the transaction is aborted, and all partitions wait until there is room.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from quality_service import decide
from quality_service.changelog import Changelog
from quality_service.decide import Candidates, Outcomes, Remembered
from quality_service.entries import Keys, State, Writes, conflict_keys
from quality_service.restore import NOTHING_COMMITTED, restore
from quality_service.store import IdStore, Progress, StoreFull, Stores
from streamkit.clock import Clock
from streamkit.crashpoints import crash_point
from streamkit.ports import Paused, TopicPartition


@dataclass(slots=True)
class _Partition:
    store: IdStore
    position: int
    """The group's committed offset, NOTHING_COMMITTED where there is none."""
    held: Writes | None = None


class IdState:
    """A `streamkit.ports.Participant`. Used by the runner's thread alone."""

    def __init__(self, topic: str, topic_id: str, stores: Stores, changelog: Changelog, clock: Clock) -> None:
        self._topic = topic
        self._topic_id = topic_id
        self._stores = stores
        self._changelog = changelog
        self._clock = clock
        self._partitions: dict[int, _Partition] = {}

    def decide(
        self, partition: int, keys: Keys, hashes: Keys, offsets: NDArray[np.int64], valid: NDArray[np.bool_]
    ) -> Outcomes:
        """Decide the records of one partition, in offset order, and hold what follows until the commit.

        One call a partition and transaction. Raises KeyError for a partition that is not assigned.
        """
        slot = self._partitions[partition]
        if slot.held is not None:
            raise RuntimeError(f"partition {partition} was decided twice in one transaction")
        rows = Candidates.of(keys, hashes, offsets)
        remembered = decide.effective(slot.store.look_up(rows.keys()), rows.first_offset())
        known = _known_conflicts(slot.store, rows, remembered)
        outcomes = decide.decide(rows, remembered, known, valid)
        slot.held = decide.writes(rows, remembered, outcomes.outcome)
        return outcomes

    def holds(self, partition: int, keys: Keys, hashes: Keys, batch_begin: int) -> NDArray[np.bool_]:
        """Whether each event id is accepted with this content, the batch in hand counted.

        `batch_begin`: the first raw offset of that batch; what the store has from there on did not count.
        """
        slot = self._partitions[partition]
        rows = Candidates.of(keys, hashes, np.full(len(keys), batch_begin, dtype=np.int64))
        asked = rows.keys()
        entry = decide.effective(slot.store.look_up(asked), rows.first_offset()).entry.copy()
        if slot.held is not None and len(slot.held.keys):
            place = np.minimum(np.searchsorted(slot.held.keys, asked), len(slot.held.keys) - 1)
            decided = slot.held.keys[place] == asked
            entry[decided] = slot.held.entries[place[decided]]
        entry = entry[rows.group]
        held: NDArray[np.bool_] = (entry["state"] == State.ACCEPTED) & (entry["hash"] == hashes)
        return held

    def assigned(self, offsets: Mapping[TopicPartition, int | None]) -> None:
        for tp, committed in sorted(offsets.items()):
            position = NOTHING_COMMITTED if committed is None else committed
            self._close(tp.partition)
            store = self._stores.open(self._topic_id, tp.partition)
            self._partitions[tp.partition] = _Partition(store, position)
            crash_point("id-store-opened")
            restore(
                store,
                self._changelog,
                topic_id=self._topic_id,
                partition=tp.partition,
                committed=position,
                clock=self._clock,
            )

    def revoked(self, partitions: Sequence[TopicPartition]) -> None:
        for tp in partitions:
            self._close(tp.partition)

    def before_commit(self, next_offsets: Mapping[TopicPartition, int]) -> None:
        for tp, end in next_offsets.items():
            slot = self._partitions[tp.partition]
            crash_point("id-store-before-apply")
            try:
                slot.store.apply(slot.held or Writes.none(), Progress(slot.position, end))
            except StoreFull as full:
                raise Paused((), str(full)) from full
            crash_point("id-store-after-apply")

    def after_commit(self, next_offsets: Mapping[TopicPartition, int]) -> None:
        for tp, end in next_offsets.items():
            # Gone where a rebalance came between an unanswered commit and the news that it had happened.
            slot = self._partitions.get(tp.partition)
            if slot is not None:
                slot.held, slot.position = None, end

    def after_abort(self) -> None:
        for slot in self._partitions.values():
            slot.held = None

    def sizes(self) -> tuple[int, int]:
        """Event ids remembered in the assigned partitions, and the bytes that they occupy."""
        stores = [slot.store for slot in self._partitions.values()]
        return sum(s.count() for s in stores), sum(s.size_bytes() for s in stores)

    def close(self) -> None:
        for partition in list(self._partitions):
            self._close(partition)

    def _close(self, partition: int) -> None:
        slot = self._partitions.pop(partition, None)
        if slot is not None:
            slot.store.close()


def _known_conflicts(store: IdStore, rows: Candidates, remembered: Remembered) -> NDArray[np.bool_]:
    asked = decide.contradicting(rows, remembered)
    if len(asked) == 0:
        return np.zeros(len(rows), dtype=bool)
    found = store.look_up_conflicts(conflict_keys(rows.key[asked], rows.hash[asked]))
    return decide.known_conflicts(rows, remembered, asked, found)
