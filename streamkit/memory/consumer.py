"""The consumer on the broker in memory."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from streamkit.memory.broker import MemoryBroker
from streamkit.memory.groups import MemberMetadata
from streamkit.memory.log import Record, fit
from streamkit.ports import BrokerError, GroupMetadata, RecordBatch, TopicPartition

OnAssign = Callable[[Sequence[TopicPartition]], Mapping[TopicPartition, int] | None]
OnRemove = Callable[[Sequence[TopicPartition]], None]

_WAIT_SLICE_S = 0.02
_UNSTABLE_WAIT_S = 15.0


class MemoryConsumer:
    """Not thread-safe, as the real one; several of them on one broker are."""

    def __init__(self, broker: MemoryBroker, group: str) -> None:
        self._broker = broker
        self._group = broker.group(group)
        self._member: int | None = None
        self._topics: tuple[str, ...] = ()
        self._owned: list[TopicPartition] = []
        self._position: dict[TopicPartition, int] = {}
        self._paused: set[TopicPartition] = set()
        self._turn = 0
        self._told = False

    # Group membership -------------------------------------------------------------------------------

    def subscribe(
        self, topics: Sequence[str], *, on_assign: OnAssign, on_revoke: OnRemove, on_lost: OnRemove
    ) -> None:
        self._on_assign, self._on_revoke, self._on_lost = on_assign, on_revoke, on_lost
        self._topics = tuple(topics)
        self._join()

    def assignment(self) -> list[TopicPartition]:
        return list(self._owned)

    def group_metadata(self) -> GroupMetadata:
        return MemberMetadata(self._group.name, self._member or 0)

    def lose_session(self) -> None:
        """For tests: the broker has not heard from this member and hands its partitions to others."""
        with self._broker.changed:
            if self._member is not None:
                self._group.leave(self._member, self._broker.partitions_of_group(self._group))

    def close(self) -> None:
        if self._member is None:
            return
        if self._group.knows(self._member):
            self._remove(list(self._owned), self._on_revoke)
        with self._broker.changed:
            self._group.leave(self._member, self._broker.partitions_of_group(self._group))
            self._broker.changed.notify_all()
        self._member = None

    def _join(self) -> None:
        with self._broker.changed:
            partitions = self._broker.partitions_of_group(self._group, self._topics)
            self._member = self._group.join(self._topics, partitions)
            self._told = False
            self._broker.changed.notify_all()

    def _follow_group(self) -> None:
        """What a real client does inside poll: notice the group's decisions and run the callbacks."""
        if self._member is None:
            return
        if not self._group.knows(self._member):
            self._remove(list(self._owned), self._on_lost)
            self._join()
        with self._broker.changed:
            gone = self._group.to_give_up(self._member)
        if gone:
            self._remove(gone, self._on_revoke)
            with self._broker.changed:
                self._group.give_up(self._member, gone)
                self._broker.changed.notify_all()
        with self._broker.changed:
            new = self._group.to_take(self._member)
            self._group.take(self._member, new)
        # As Kafka does it: a member for whom no partition is left hears that, once.
        if new or not self._told:
            self._told = True
            starts = dict(self._on_assign(new) or {})
            known = self.committed([tp for tp in new if tp not in starts])
            for tp in new:
                self._position[tp] = starts.get(tp, known.get(tp) or 0)
            self._owned = sorted({*self._owned, *new})

    def _remove(self, partitions: list[TopicPartition], callback: OnRemove) -> None:
        if not partitions:
            return
        for tp in partitions:
            self._position.pop(tp, None)
            self._paused.discard(tp)
        self._owned = [tp for tp in self._owned if tp not in set(partitions)]
        callback(partitions)

    # Reading ----------------------------------------------------------------------------------------

    def poll(self, max_records: int, max_bytes: int, timeout_s: float, linger_s: float) -> list[RecordBatch]:
        """Never lingers: what is there comes at once."""
        self._broker.meet_fault("poll", after=False)
        deadline = self._broker.now_s() + timeout_s
        while True:
            if not self._broker.down:
                self._follow_group()
                if batches := self._take(max_records, max_bytes):
                    return batches
            left_s = deadline - self._broker.now_s()
            if left_s <= 0:
                return []
            with self._broker.changed:
                self._broker.wait(min(left_s, _WAIT_SLICE_S))

    def _take(self, max_records: int, max_bytes: int) -> list[RecordBatch]:
        """From every partition in turn, beginning with another one each time, so that none starves."""
        taken: dict[str, list[tuple[int, Record]]] = {}
        count = size = 0
        readable = [tp for tp in self._owned if tp not in self._paused]
        self._turn += 1
        shift = self._turn % len(readable) if readable else 0
        with self._broker.changed:
            self._broker.expire_transactions()
            for tp in readable[shift:] + readable[:shift]:
                if count >= max_records or size >= max_bytes:
                    break
                records = self._broker.log(tp).read(self._position[tp], max_records - count)
                records = records[: fit(records, max_bytes, size)]
                if not records:
                    continue
                self._position[tp] = records[-1].offset + 1
                taken.setdefault(tp.topic, []).extend((tp.partition, record) for record in records)
                count += len(records)
                size += sum(len(record.value or b"") for record in records)
        return [_batch(topic, rows) for topic, rows in taken.items()]

    # Positions --------------------------------------------------------------------------------------

    def pause(self, partitions: Sequence[TopicPartition]) -> None:
        self._paused |= set(partitions) & set(self._owned)

    def resume(self, partitions: Sequence[TopicPartition]) -> None:
        self._paused -= set(partitions)

    def seek(self, offsets: Mapping[TopicPartition, int]) -> None:
        self._position |= {tp: offset for tp, offset in offsets.items() if tp in self._owned}

    def committed(self, partitions: Sequence[TopicPartition]) -> dict[TopicPartition, int | None]:
        self._broker.check_up()
        self._broker.meet_fault("committed", after=False)
        deadline = self._broker.now_s() + _UNSTABLE_WAIT_S
        with self._broker.changed:
            while self._broker.has_pending_offsets(self._group.name, partitions):
                if self._broker.now_s() >= deadline:
                    raise BrokerError("a transaction stays open on these offsets", retriable=True)
                self._broker.wait(_WAIT_SLICE_S)
            return {tp: self._group.committed.get(tp) for tp in partitions}

    def commit(self, offsets: Mapping[TopicPartition, int]) -> None:
        self._broker.check_up()
        self._broker.meet_fault("commit_offsets", after=False)
        with self._broker.changed:
            if not self._group.may_commit(self._member or 0, offsets):
                raise BrokerError("the group has moved on without this member")
            self._group.committed.update(offsets)

    def lag(self) -> dict[TopicPartition, int]:
        self._broker.check_up()
        with self._broker.changed:
            return {tp: self._lag_of(tp) for tp in self._owned}

    def _lag_of(self, tp: TopicPartition) -> int:
        log, position = self._broker.log(tp), self._position[tp]
        at_end = log.last_stable_offset == log.high_watermark and not log.read(position, 1)
        return 0 if at_end else log.high_watermark - position


def _batch(topic: str, rows: Sequence[tuple[int, Record]]) -> RecordBatch:
    return RecordBatch(
        topic=topic,
        partition=np.array([partition for partition, _ in rows], dtype=np.int32),
        offset=np.array([record.offset for _, record in rows], dtype=np.int64),
        timestamp_ms=np.array([record.timestamp_ms for _, record in rows], dtype=np.int64),
        key=[record.key for _, record in rows],
        value=[record.value for _, record in rows],
        headers=[record.headers for _, record in rows],
    )
