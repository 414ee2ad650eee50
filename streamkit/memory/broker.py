"""A broker in memory: topics, transactions with fencing, groups, and outages on demand."""

from __future__ import annotations

import threading
import time
import uuid
from base64 import urlsafe_b64encode
from collections import defaultdict, deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from schemas.hashing import murmur2_partition
from streamkit.clock import Clock, SystemClock
from streamkit.memory.groups import Group
from streamkit.memory.log import PartitionLog, Record, Transaction, TransactionState
from streamkit.ports import BrokerError, Fenced, NewTopic, OutputBatch, TopicPartition

MAX_RECORD_BYTES = 32 * 1024 * 1024
TRANSACTION_TIMEOUT_MS = 10_000


@dataclass(slots=True)
class _Topic:
    topic_id: str
    logs: list[PartitionLog]
    next_keyless: int = 0


@dataclass(slots=True)
class _Slot:
    """What the broker keeps of a transactional id."""

    epoch: int = -1
    open: Transaction | None = None


@dataclass(slots=True)
class _Fault:
    error: BaseException
    after: bool


@dataclass(slots=True)
class MemoryBroker:
    """Thread-safe. Clients are made by `streamkit.memory`'s `MemoryConsumer` and the others.

    `down` makes every call fail as an unreachable broker does.
    """

    clock: Clock = field(default_factory=SystemClock)
    down: bool = False
    changed: threading.Condition = field(default_factory=lambda: threading.Condition(threading.RLock()))
    _topics: dict[str, _Topic] = field(default_factory=dict)
    _groups: dict[str, Group] = field(default_factory=dict)
    _slots: dict[str, _Slot] = field(default_factory=lambda: defaultdict(_Slot))
    _faults: dict[str, deque[_Fault]] = field(default_factory=lambda: defaultdict(deque))

    # Faults -----------------------------------------------------------------------------------------

    def fail_next(self, call: str, error: BaseException, *, after: bool = False) -> None:
        """The next `call` (the name of a port's method) raises: before it did anything, or `after` it was
        done and only the answer got lost."""
        self._faults[call].append(_Fault(error, after))

    def meet_fault(self, call: str, *, after: bool) -> None:
        faults = self._faults[call]
        if faults and faults[0].after is after:
            raise faults.popleft().error

    def check_up(self) -> None:
        if self.down:
            raise BrokerError("the broker is down", retriable=True)

    # Waiting ----------------------------------------------------------------------------------------

    def now_s(self) -> float:
        """Real time, by which clients give up waiting. A simulation overrides it, and `wait` with it."""
        return time.monotonic()

    def wait(self, seconds: float) -> None:
        """For a change at the broker, with `changed` held."""
        self.changed.wait(seconds)

    # Topics -----------------------------------------------------------------------------------------

    def create_topic(self, topic: NewTopic) -> None:
        with self.changed:
            existing = self._topics.get(topic.name)
            if existing is None:
                topic_id = urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=")
                self._topics[topic.name] = _Topic(topic_id, [PartitionLog() for _ in range(topic.partitions)])
            elif len(existing.logs) != topic.partitions:
                raise BrokerError(f"topic {topic.name} has {len(existing.logs)} partitions")

    def topic_id(self, topic: str) -> str:
        return self._topic(topic).topic_id

    def partitions(self, topic: str) -> list[TopicPartition]:
        return [TopicPartition(topic, i) for i in range(len(self._topic(topic).logs))]

    def log(self, tp: TopicPartition) -> PartitionLog:
        logs = self._topic(tp.topic).logs
        if not 0 <= tp.partition < len(logs):
            raise BrokerError(f"no partition {tp}")
        return logs[tp.partition]

    def committed_records(self, topic: str) -> list[Record]:
        """What a read-committed reader sees, partition by partition: for assertions."""
        with self.changed:
            self.expire_transactions()
            return [r for log in self._topic(topic).logs for r in log.read(0, log.high_watermark)]

    def _topic(self, name: str) -> _Topic:
        if name not in self._topics:
            raise BrokerError(f"no topic {name}")
        return self._topics[name]

    # Records ----------------------------------------------------------------------------------------

    def append(self, batches: Sequence[OutputBatch], transaction: Transaction | None) -> None:
        with self.changed:
            for batch in batches:
                self._append_batch(batch, transaction)
            self.changed.notify_all()

    def _append_batch(self, batch: OutputBatch, transaction: Transaction | None) -> None:
        if any(len(value or b"") > MAX_RECORD_BYTES for value in batch.value):
            raise BrokerError("record too large")
        partitions = batch.partition if batch.partition is not None else self._partition_of(batch)
        headers = batch.headers if batch.headers is not None else [()] * len(batch)
        now_ms = self.clock.now_ms()
        for value, key, partition, header in zip(batch.value, batch.key, partitions, headers, strict=True):
            tp = TopicPartition(batch.topic, int(partition))
            self.log(tp).append(key, value, header, now_ms, transaction)
            if transaction is not None:
                transaction.partitions.add(tp)

    def _partition_of(self, batch: OutputBatch) -> list[int]:
        topic = self._topic(batch.topic)
        partitions = [int(p) for p in murmur2_partition(batch.key, len(topic.logs))]
        for i, partition in enumerate(partitions):
            if partition < 0:
                partitions[i] = topic.next_keyless % len(topic.logs)
                topic.next_keyless += 1
        return partitions

    # Transactions -----------------------------------------------------------------------------------

    def initialise(self, transactional_id: str) -> int:
        """A new epoch: fences the older producers of this id and ends what they left open."""
        with self.changed:
            slot = self._slots[transactional_id]
            self._end(slot, TransactionState.ABORTED)
            slot.epoch += 1
            return slot.epoch

    def begin(self, transactional_id: str, epoch: int) -> Transaction:
        with self.changed:
            slot = self._current(transactional_id, epoch)
            slot.open = Transaction(self.clock.now_ms())
            return slot.open

    def transaction(self, transactional_id: str, epoch: int) -> Transaction:
        with self.changed:
            slot = self._current(transactional_id, epoch)
            if slot.open is None:
                raise BrokerError("no transaction is open")
            return slot.open

    def end(self, transactional_id: str, epoch: int, state: TransactionState) -> None:
        with self.changed:
            self._end(self._current(transactional_id, epoch), state)

    def expire_transactions(self) -> None:
        """Abort and fence what is open for longer than the transaction timeout."""
        for slot in self._slots.values():
            if slot.open and self.clock.now_ms() - slot.open.opened_ms >= TRANSACTION_TIMEOUT_MS:
                self._end(slot, TransactionState.ABORTED)
                slot.epoch += 1

    def has_pending_offsets(self, group: str, partitions: Sequence[TopicPartition]) -> bool:
        with self.changed:
            self.expire_transactions()
            return any(
                name == group and not offsets.keys().isdisjoint(partitions)
                for slot in self._slots.values()
                if slot.open
                for name, offsets in slot.open.offsets
            )

    def _current(self, transactional_id: str, epoch: int) -> _Slot:
        self.expire_transactions()
        slot = self._slots[transactional_id]
        if slot.epoch != epoch:
            raise Fenced(f"{transactional_id} has a newer producer")
        return slot

    def _end(self, slot: _Slot, state: TransactionState) -> None:
        if slot.open is None:
            return
        slot.open.state = state
        for tp in sorted(slot.open.partitions):
            self.log(tp).append_marker()
        if state is TransactionState.COMMITTED:
            for group, offsets in slot.open.offsets:
                self.group(group).committed.update(offsets)
        slot.open = None
        self.changed.notify_all()

    # Groups -----------------------------------------------------------------------------------------

    def group(self, name: str) -> Group:
        with self.changed:
            return self._groups.setdefault(name, Group(name))

    def partitions_of_group(self, group: Group, topics: Sequence[str] = ()) -> list[TopicPartition]:
        names = sorted(group.topics() | set(topics))
        return [tp for name in names if name in self._topics for tp in self.partitions(name)]

    def committed_offsets(self, group: str) -> Mapping[TopicPartition, int]:
        return dict(self.group(group).committed)
