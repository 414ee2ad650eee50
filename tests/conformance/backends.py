"""What the conformance suite runs against: the broker in memory, and Kafka."""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Sequence
from typing import NamedTuple, Protocol

from streamkit import kafka, memory
from streamkit.ports import (
    Admin,
    Consumer,
    Headers,
    NewTopic,
    OutputBatch,
    Producer,
    TopicPartition,
    TransactionalProducer,
)

WAIT_S = 30.0
POLL_S = 0.05


class Backend(Protocol):
    def consumer(self, group: str) -> Consumer: ...

    def producer(self) -> Producer: ...

    def transactional(self, transactional_id: str) -> TransactionalProducer: ...

    def admin(self) -> Admin: ...

    def close(self) -> None: ...


class MemoryBackend:
    def __init__(self) -> None:
        self._broker = memory.MemoryBroker()

    def consumer(self, group: str) -> Consumer:
        return memory.MemoryConsumer(self._broker, group)

    def producer(self) -> Producer:
        return memory.MemoryProducer(self._broker)

    def transactional(self, transactional_id: str) -> TransactionalProducer:
        return memory.MemoryTransactionalProducer(self._broker, transactional_id)

    def admin(self) -> Admin:
        return memory.MemoryAdmin(self._broker)

    def close(self) -> None:
        """Nothing is held."""


class KafkaBackend:
    def __init__(self, bootstrap: str, engine: kafka.Engine) -> None:
        self.bootstrap = bootstrap
        self.engine = engine
        self._made = kafka.Clients(bootstrap, engine)
        self._clients: list[Consumer | Producer | TransactionalProducer] = []
        self._admin = kafka.KafkaAdmin(bootstrap)

    def consumer(self, group: str) -> Consumer:
        consumer = self._made.consumer(group)
        self._clients.append(consumer)
        return consumer

    def producer(self) -> Producer:
        producer = self._made.producer()
        self._clients.append(producer)
        return producer

    def transactional(self, transactional_id: str) -> TransactionalProducer:
        producer = self._made.transactional(transactional_id)
        self._clients.append(producer)
        return producer

    def admin(self) -> Admin:
        return self._admin

    def close(self) -> None:
        for client in self._clients:
            client.close()
        self._admin.close()


class Read(NamedTuple):
    topic: str
    partition: int
    offset: int
    key: bytes | None
    value: bytes | None
    headers: Headers


class Reader:
    """A consumer with a memory: what it read, and which callbacks fired."""

    def __init__(
        self, consumer: Consumer, *topics: str, starts: dict[TopicPartition, int] | None = None
    ) -> None:
        self.consumer = consumer
        self.records: list[Read] = []
        self.sizes: list[int] = []
        self.callbacks: list[tuple[str, frozenset[TopicPartition]]] = []
        self._starts = starts
        consumer.subscribe(
            topics, on_assign=self._assigned, on_revoke=self._note("revoke"), on_lost=self._note("lost")
        )

    @property
    def values(self) -> list[bytes | None]:
        return [record.value for record in self.records]

    def poll(self, max_records: int = 1000, max_bytes: int = 64 << 20) -> None:
        batches = self.consumer.poll(max_records, max_bytes, POLL_S, 0.005)
        self.sizes += [sum(map(len, batches))] if batches else []
        for batch in batches:
            columns = (batch.partition, batch.offset, batch.key, batch.value, batch.headers)
            self.records += [
                Read(batch.topic, int(p), int(o), k, v, h) for p, o, k, v, h in zip(*columns, strict=True)
            ]

    def read(self, count: int, max_records: int = 1000, max_bytes: int = 64 << 20) -> list[Read]:
        """The next `count` records; fails where they do not come."""
        before = len(self.records)
        wait_until(
            lambda: len(self.records) >= before + count,
            meanwhile=lambda: self.poll(max_records, max_bytes),
            what=f"{count} records",
        )
        return self.records[before:]

    def join(self, count: int) -> None:
        """Poll until this many partitions are assigned."""
        wait_until(lambda: len(self.consumer.assignment()) == count, meanwhile=self.poll, what="assignment")

    def _assigned(self, partitions: Sequence[TopicPartition]) -> dict[TopicPartition, int] | None:
        self.callbacks.append(("assign", frozenset(partitions)))
        return self._starts

    def _note(self, name: str) -> Callable[[Sequence[TopicPartition]], None]:
        return lambda partitions: self.callbacks.append((name, frozenset(partitions)))


def wait_until(condition: Callable[[], bool], *, meanwhile: Callable[[], object], what: str) -> None:
    deadline = time.monotonic() + WAIT_S
    while not condition():
        assert time.monotonic() < deadline, f"waited in vain for {what}"
        meanwhile()


def poll_both(first: Reader, second: Reader, max_bytes: int = 64 << 20) -> Callable[[], None]:
    """Members of a group need to poll in turn for a rebalance to end."""

    def poll() -> None:
        first.poll(max_bytes=max_bytes)
        second.poll()

    return poll


def unique(prefix: str) -> str:
    return f"conformance-{prefix}-{uuid.uuid4().hex[:12]}"


def new_topic(backend: Backend, partitions: int = 1) -> str:
    name = unique("topic")
    backend.admin().ensure_topics([NewTopic(name, partitions, {"max.message.bytes": "33554432"})])
    return name


def records(topic: str, values: Sequence[bytes | None], partition: int | None = 0) -> OutputBatch:
    return OutputBatch(
        topic,
        value=values,
        key=[None] * len(values),
        partition=None if partition is None else [partition] * len(values),
    )


def numbered(start: int, stop: int) -> list[bytes]:
    return [b"%d" % i for i in range(start, stop)]


def send(backend: Backend, *batches: OutputBatch) -> None:
    producer = backend.producer()
    producer.produce(batches, WAIT_S)


def in_transaction(producer: TransactionalProducer, *batches: OutputBatch) -> None:
    producer.begin()
    producer.produce(batches)
    producer.commit()


def abort_on_arrival(backend: Backend, producer: TransactionalProducer, topic: str) -> None:
    """Abort a transaction whose records are in the log of every partition: one aborted at once may never
    leave the client."""
    admin = backend.admin()
    before = admin.end_offsets(topic)
    producer.begin()
    producer.produce([records(topic, [b"aborted"], tp.partition) for tp in before])
    wait_until(
        lambda: all(end > before[tp] for tp, end in admin.end_offsets(topic).items()),
        meanwhile=lambda: time.sleep(POLL_S),
        what="arrival",
    )
    producer.abort()
