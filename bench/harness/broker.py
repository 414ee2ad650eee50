"""A real Kafka broker for a benchmark, the topics on it, and what was written to them."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any, Final

import confluent_kafka as ck
from confluent_kafka import admin as ck_admin

from bench.harness.procfs import cpu_s
from deploy.local import lifecycle, setup, toolchain
from deploy.local.errors import CommandError
from deploy.local.layout import Layout
from deploy.local.ports import HOST, free_base
from deploy.local.progress import Steps
from deploy.local.stack import Stack
from deploy.local.supervision import Supervisor
from deploy.local.testing import temporary_home
from streamkit.kafka import KafkaAdmin, KafkaProducer
from streamkit.ports import NewTopic, OutputBatch

_READ: Final = 20_000
_SILENCE_S: Final = 30.0
_ANSWER_S: Final = 30.0
_POLL_S: Final = 0.1


class Broker:
    """`pid` is None for a broker that the benchmark did not start."""

    def __init__(self, bootstrap: str, pid: int | None) -> None:
        self.bootstrap = bootstrap
        self.pid = pid
        # Level 5 leaves out what the client says on closing.
        self._admin: Any = ck_admin.AdminClient({"bootstrap.servers": bootstrap, "log_level": 5})

    def cpu_s(self) -> float | None:
        return None if self.pid is None else cpu_s(self.pid)

    def create(self, *names: str, partitions: int) -> None:
        admin = KafkaAdmin(self.bootstrap)
        admin.ensure_topics([NewTopic(name, partitions) for name in names])
        admin.close()

    def delete_all_of(self, name: str) -> None:
        """Every topic that has `name` in its own: those that a peer makes for itself too."""
        found = [topic for topic in self._admin.list_topics(timeout=_ANSWER_S).topics if name in topic]
        if found:
            for future in self._admin.delete_topics(found).values():
                future.result()

    def wait_for_open_transactions(self, topic: str, timeout_s: float) -> float:
        """Until readers of committed records can read to the end; how long that took, in seconds.

        A killed process leaves its transaction open, until it is fenced or times out.
        """
        begun = time.monotonic()
        while self.ends(topic, committed=True) != self.ends(topic):
            if time.monotonic() - begun > timeout_s:
                raise CommandError(f"{topic}: a transaction is still open after {timeout_s:.0f} s")
            time.sleep(_POLL_S)
        return time.monotonic() - begun

    def ends(self, topic: str, *, committed: bool = False) -> dict[int, int]:
        """Partition -> offset after the last record, or after the last one that may be read."""
        partitions = self._admin.list_topics(topic, timeout=_ANSWER_S).topics[topic].partitions
        level = ck.IsolationLevel.READ_COMMITTED if committed else ck.IsolationLevel.READ_UNCOMMITTED
        wanted = {ck.TopicPartition(topic, p): ck_admin.OffsetSpec.latest() for p in partitions}
        answers = self._admin.list_offsets(wanted, isolation_level=level, request_timeout=_ANSWER_S)
        return {tp.partition: int(answer.result().offset) for tp, answer in answers.items()}

    def committed(self, group: str, topic: str) -> dict[int, int]:
        """What a group has committed; partitions without a commit are left out."""
        request = ck.ConsumerGroupTopicPartitions(group)
        answers = self._admin.list_consumer_group_offsets([request], request_timeout=_ANSWER_S)
        found = answers[group].result().topic_partitions
        return {tp.partition: int(tp.offset) for tp in found if tp.topic == topic and tp.offset >= 0}

    def fill(self, topic: str, parts: Iterable[tuple[list[bytes], list[bytes]]]) -> None:
        """Produce keys and values, in order."""
        producer = KafkaProducer(self.bootstrap, "tillstream.bench")
        try:
            for keys, values in parts:
                producer.produce([OutputBatch(topic, values, keys)], timeout_s=60.0)
        finally:
            producer.close()

    def read(self, topic: str) -> list[bytes]:
        """The values of every committed record of a topic."""
        partitions = len(self.ends(topic))
        consumer = ck.Consumer(
            {
                "bootstrap.servers": self.bootstrap,
                "group.id": f"tillstream.bench.read.{time.monotonic_ns()}",
                "enable.auto.commit": False,
                "auto.offset.reset": "earliest",
                "isolation.level": "read_committed",
                "enable.partition.eof": True,
                "log_level": 5,
            }
        )
        consumer.assign([ck.TopicPartition(topic, p, ck.OFFSET_BEGINNING) for p in range(partitions)])
        try:
            return _values(consumer, topic, partitions)
        finally:
            consumer.close()


def _values(consumer: Any, topic: str, partitions: int) -> list[bytes]:
    values: list[bytes] = []
    ended: set[int] = set()
    deadline = time.monotonic() + _SILENCE_S
    while len(ended) < partitions:
        for message in consumer.consume(_READ, 0.2):
            deadline = time.monotonic() + _SILENCE_S
            error = message.error()
            if error is None:
                values.append(message.value())
            elif error.code() == ck.KafkaError._PARTITION_EOF:
                ended.add(message.partition())
            else:
                raise CommandError(f"reading {topic}: {error}")
        if time.monotonic() > deadline:
            raise CommandError(f"reading {topic}: the broker fell silent")
    return values


def digest(values: Iterable[bytes]) -> str:
    """SHA-256 over the sorted values. Each begins with its event id, so this is by (id, content); a record
    that came twice counts twice."""
    hasher = hashlib.sha256()
    for value in sorted(values):
        hasher.update(len(value).to_bytes(4, "big"))
        hasher.update(value)
    return hasher.hexdigest()


@contextmanager
def broker(bootstrap: str | None) -> Iterator[Broker]:
    """The broker at `bootstrap`, or one of its own in a home of its own on free ports."""
    if bootstrap is not None:
        yield Broker(bootstrap, None)
        return
    tools = Layout.from_environment().tools
    with temporary_home("bench") as home:
        layout = Layout(home, tools).create()
        with Steps() as steps:
            # As `up` does it, so that our stage runs on the clients that it has there.
            steps.note(setup.native_library())
            stack = Stack.build(layout, free_base(("kafka",)), toolchain.ensure(layout, steps), ("kafka",))
            lifecycle.up(stack, steps)
        try:
            pid = Supervisor(layout).processes()["kafka"].pid
            yield Broker(f"{HOST}:{stack.ports['kafka']}", pid)
        finally:
            with Steps() as steps:
                lifecycle.down(layout, steps)
