"""Producers and administration on the broker in memory."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from streamkit.memory.broker import MemoryBroker
from streamkit.memory.groups import MemberMetadata
from streamkit.memory.log import TransactionState
from streamkit.ports import (
    BrokerError,
    GroupMetadata,
    NewTopic,
    OutputBatch,
    TopicPartition,
    TransactionAborted,
)


class MemoryProducer:
    def __init__(self, broker: MemoryBroker) -> None:
        self._broker = broker

    def produce(self, batches: Sequence[OutputBatch], timeout_s: float) -> None:
        self._broker.check_up()
        self._broker.meet_fault("produce", after=False)
        self._broker.append(batches, None)
        self._broker.meet_fault("produce", after=True)

    def close(self) -> None:
        """Nothing is held."""


class MemoryTransactionalProducer:
    def __init__(self, broker: MemoryBroker, transactional_id: str) -> None:
        self._broker = broker
        self._id = transactional_id
        self._epoch: int | None = None
        self._open = False

    def begin(self) -> None:
        if self._epoch is None:
            self.replace()
        self._before("begin")
        self._broker.begin(self._id, self._current_epoch())
        self._open = True
        self._broker.meet_fault("begin", after=True)

    def produce(self, batches: Sequence[OutputBatch]) -> None:
        self._before("produce")
        transaction = self._broker.transaction(self._id, self._current_epoch())
        self._broker.append(batches, transaction)
        self._broker.meet_fault("produce", after=True)

    def send_offsets(self, offsets: Mapping[TopicPartition, int], group: GroupMetadata) -> None:
        self._before("send_offsets")
        if not isinstance(group, MemberMetadata):
            raise TypeError("group metadata of another adapter")
        with self._broker.changed:
            transaction = self._broker.transaction(self._id, self._current_epoch())
            if not self._broker.group(group.group).may_commit(group.member, offsets):
                raise TransactionAborted("the group has moved on without this member", retriable=True)
            transaction.offsets.append((group.group, dict(offsets)))
        self._broker.meet_fault("send_offsets", after=True)

    def commit(self) -> None:
        self._before("commit")
        self._broker.end(self._id, self._current_epoch(), TransactionState.COMMITTED)
        self._broker.meet_fault("commit", after=True)
        self._open = False

    def abort(self) -> None:
        if not self._open:
            return
        self._before("abort")
        self._broker.end(self._id, self._current_epoch(), TransactionState.ABORTED)
        self._open = False
        self._broker.meet_fault("abort", after=True)

    def replace(self) -> None:
        self._before("replace")
        self._open = False
        self._epoch = self._broker.initialise(self._id)

    def close(self) -> None:
        """Leaves an open transaction to its timeout, as a real client does."""
        self._epoch = None
        self._open = False

    def _before(self, call: str) -> None:
        self._broker.check_up()
        self._broker.meet_fault(call, after=False)

    def _current_epoch(self) -> int:
        if self._epoch is None:
            raise BrokerError("the producer is not initialised")
        return self._epoch


class MemoryAdmin:
    def __init__(self, broker: MemoryBroker) -> None:
        self._broker = broker

    def ensure_topics(self, topics: Sequence[NewTopic]) -> None:
        self._broker.check_up()
        for topic in topics:
            self._broker.create_topic(topic)

    def topic_ids(self, topics: Sequence[str]) -> dict[str, str]:
        return {topic: self._broker.topic_id(topic) for topic in topics}

    def partitions(self, topic: str) -> list[TopicPartition]:
        return self._broker.partitions(topic)

    def end_offsets(self, topic: str) -> dict[TopicPartition, int]:
        return {tp: self._broker.log(tp).high_watermark for tp in self._broker.partitions(topic)}

    def close(self) -> None:
        """Nothing is held."""
