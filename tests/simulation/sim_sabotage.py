"""Breaks, one for each way in which a law could be lost. A check that cannot fail is a defect: each must
turn red.

They replace parts of the product by subclass or patch, here and nowhere else.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, suppress
from dataclasses import replace
from typing import Any
from unittest import mock

import numpy as np
import polars as pl
from numpy.typing import NDArray

from gold_writer.aggregates.state import AggregateState
from gold_writer.warehouse.batch import Write
from quality_service import decide, outputs
from quality_service.decide import Outcomes
from quality_service.entries import Keys, no_entries
from quality_service.restore import NOTHING_COMMITTED
from quality_service.state import IdState, _Partition
from schemas.codec import Bad, Codec, Decoded
from streamkit.crashpoints import crash_point
from streamkit.pauses import Pauses
from streamkit.ports import BrokerError, OutputBatch, RecordBatch, TopicPartition
from streamkit.runner import Runner
from tests.simulation.sim_items import QUARANTINE
from tests.simulation.sim_services import Parts
from tests.simulation.sim_stores import LakeQuery, SimWarehouse, rows_of

Offsets = dict[TopicPartition, int]


class CommitsBeforeProduce(Runner):
    """The offsets go first, in a transaction of their own; then the outputs."""

    def _transact(self, outputs: Sequence[OutputBatch], first: Offsets, following: Offsets) -> bool:
        self._producer.begin()
        self._producer.send_offsets(following, self._consumer.group_metadata())
        self._producer.commit()
        crash_point("after-commit")
        self._producer.begin()
        self._producer.produce(outputs)
        for participant in self._participants:
            participant.before_commit(following)
        self._producer.commit()
        return True


class OffsetsOutside(Runner):
    """The outputs are a transaction; the offsets are committed after it."""

    def _transact(self, outputs: Sequence[OutputBatch], first: Offsets, following: Offsets) -> bool:
        self._producer.begin()
        self._producer.produce(outputs)
        for participant in self._participants:
            participant.before_commit(following)
        self._producer.commit()
        crash_point("after-commit")
        self._consumer.commit(following)
        return True


class SwallowsQuarantine(Runner):
    """What cannot be written to quarantine is logged and forgotten."""

    def _transact(self, outputs: Sequence[OutputBatch], first: Offsets, following: Offsets) -> bool:
        kept = [output for output in outputs if output.topic != QUARANTINE]
        refused = [output for output in outputs if output.topic == QUARANTINE]
        self._producer.begin()
        self._producer.produce(kept)
        with suppress(BrokerError):
            self._producer.produce(refused)
        for participant in self._participants:
            participant.before_commit(following)
        self._producer.send_offsets(following, self._consumer.group_metadata())
        self._producer.commit()
        return True


class BelievesUnknownCommits(Runner):
    """No answer to a commit is taken for a yes."""

    def _settle(self, unknown: BrokerError, first: Offsets, following: Offsets) -> bool:
        self._replace_producer()
        return True


class NoDedup(IdState):
    """Every record is the first of its id."""

    def decide(
        self, partition: int, keys: Keys, hashes: Keys, offsets: NDArray[np.int64], valid: NDArray[np.bool_]
    ) -> Outcomes:
        with mock.patch.object(
            self._partitions[partition].store, "look_up", lambda wanted: no_entries(len(wanted))
        ):
            return super().decide(partition, keys, hashes, offsets, valid)


class NotRestored(IdState):
    """A partition that arrives is taken as the local store has it."""

    def assigned(self, offsets: Mapping[TopicPartition, int | None]) -> None:
        for tp, committed in sorted(offsets.items()):
            self._close(tp.partition)
            store = self._stores.open(self._topic_id, tp.partition)
            self._partitions[tp.partition] = _Partition(
                store, NOTHING_COMMITTED if committed is None else committed
            )


class ForgetsOne(IdState):
    """The last id of each batch is not written."""

    def before_commit(self, next_offsets: Mapping[TopicPartition, int]) -> None:
        for tp in next_offsets:
            slot = self._partitions[tp.partition]
            if slot.held is not None:
                slot.held = replace(slot.held, keys=slot.held.keys[:-1], entries=slot.held.entries[:-1])
        super().before_commit(next_offsets)


class CountsAborted(AggregateState):
    """Totals of a batch that was aborted stay."""

    def after_abort(self) -> None:
        super().after_commit({TopicPartition("", number): 0 for number in self._slots})


def aborted_attempts_believed() -> AbstractContextManager[Any]:
    """What an aborted attempt left in the id store counts."""

    def effective(looked_up: Any, first_offset: Any) -> decide.Remembered:
        return decide.Remembered(looked_up, np.zeros(len(looked_up), dtype=bool))

    return mock.patch.object(decide, "effective", effective)


def bytes_cut() -> AbstractContextManager[Any]:
    """Quarantine keeps the first bytes of a record. In the column work, so for the real pipelines only."""
    items = outputs._items

    def cut(rows: Any, batch: RecordBatch, topic_id: str, now_ms: int) -> Any:
        return items(rows, batch, topic_id, now_ms).with_columns(pl.col("payload").bin.head(9))

    return mock.patch.object(outputs, "_items", cut)


def neighbours_refused() -> AbstractContextManager[Any]:
    """One unreadable record makes its whole batch unreadable: hostile input is not contained (L6)."""
    real = Codec.decode

    def decode(codec: Codec, values: Sequence[bytes | None]) -> Decoded:
        decoded = real(codec, values)
        if not decoded.bad:
            return decoded
        none = decoded.index[:0]
        return Decoded(decoded.frame.clear(), none, none, [Bad(i, "bad", None) for i in range(len(values))])

    return mock.patch.object(Codec, "decode", decode)


def pauses_never_end() -> AbstractContextManager[Any]:
    return mock.patch.object(Pauses, "resume_due")


class PositionsFirst(SimWarehouse):
    """The warehouse's positions are a transaction of their own, before the rows."""

    async def write(self, write: Write) -> None:
        self._reach()
        self.check_moves(write)
        self.move(self._database.tables, write)
        crash_point("warehouse-after-move")
        self._life.check()
        self.upsert(self._database.tables, write)


class PositionsUnguarded(SimWarehouse):
    """The warehouse's positions are written without a look at what they were, and facts are appended."""

    def check_moves(self, write: Write) -> None:
        """Whatever they are."""

    def upsert(self, tables: Any, write: Write) -> None:
        super().upsert(tables, write)
        for row in rows_of(write.quarantine, ()):
            key = int(row["quarantine_partition"]), int(row["quarantine_offset"])
            tables.twice = getattr(tables, "twice", set())
            if key in tables.twice:
                tables.quarantine[-1, len(tables.quarantine)] = row
            tables.twice.add(key)


class LakeAppendsTwice(LakeQuery):
    """A batch that is run again is appended again, whatever the table's transaction version says."""

    def is_there(self, number: int) -> bool:
        return False


SABOTAGES: dict[str, tuple[str, Callable[[], Parts]]] = {
    "commit before produce": ("L2", lambda: Parts(runner=CommitsBeforeProduce)),
    "no dedup": ("L1", lambda: Parts(id_state=NoDedup)),
    "offsets outside the transaction": ("L2", lambda: Parts(runner=OffsetsOutside)),
    "unknown commit believed": ("L1", lambda: Parts(runner=BelievesUnknownCommits)),
    "id store not restored": ("L1", lambda: Parts(id_state=NotRestored)),
    "id store forgets one of a batch": ("L3", lambda: Parts(id_state=ForgetsOne)),
    "aborted attempts believed": ("L1", lambda: Parts(patched=aborted_attempts_believed)),
    "warehouse positions before rows": ("L2", lambda: Parts(warehouse=PositionsFirst)),
    "warehouse positions unguarded": ("L4", lambda: Parts(warehouse=PositionsUnguarded)),
    "lake batch appended again": ("L2", lambda: Parts(lake=LakeAppendsTwice)),
    "quarantine error swallowed": ("L4", lambda: Parts(runner=SwallowsQuarantine)),
    "quarantined bytes cut": ("L4", lambda: Parts(patched=bytes_cut)),
    "aborted totals kept": ("L2", lambda: Parts(totals=CountsAborted)),
    "neighbours of the unreadable refused": ("L1", lambda: Parts(patched=neighbours_refused)),
    "pauses never end": ("L5", lambda: Parts(patched=pauses_never_end)),
    "ledger counting twice": ("ledger", lambda: Parts(times_entered=2)),
}
"""Name -> the law that it breaks at least, and the parts that break it."""

IN_COLUMN_WORK = {"quarantined bytes cut", "neighbours of the unreadable refused"}
"""Those that only the real pipelines show."""
