"""Lag on a real broker: what occupies offsets and is no record does not count, whatever it is."""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field

import confluent_kafka as ck
import pytest
from confluent_kafka import admin as ck_admin

from deploy.local.testing import Servers
from deploy.observability.lag.kafka import KafkaCluster
from deploy.observability.lag.model import PartitionLag, Position, Snapshot
from deploy.observability.lag.pipeline import Budget, Found, LagPipeline, Wanted
from deploy.observability.lag.postgres import PostgresPositions
from streamkit.clock import SystemClock
from streamkit.ports import TopicPartition


class CountingCluster(KafkaCluster):
    """Knows what was read."""

    def __init__(self, bootstrap: str, prefix: str) -> None:
        super().__init__(bootstrap, groups=f"{prefix}.*", topics=f"{prefix}.*")
        self.reads: list[Mapping[TopicPartition, Wanted]] = []

    def read(self, wanted: Mapping[TopicPartition, Wanted]) -> dict[TopicPartition, Found]:
        self.reads.append(wanted)
        return super().read(wanted)


@dataclass
class World:
    kafka: str
    prefix: str = field(default_factory=lambda: f"lag-{uuid.uuid4().hex[:8]}-")
    topics: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.admin = ck_admin.AdminClient({"bootstrap.servers": self.kafka})
        self.cluster = CountingCluster(self.kafka, self.prefix)

    def topic(self, name: str = "sales", **config: str) -> str:
        new = ck_admin.NewTopic(
            self.prefix + name, 1, 1, config={k.replace("_", "."): v for k, v in config.items()}
        )
        self.admin.create_topics([new])[new.topic].result(15)
        self.topics.append(new.topic)
        wait_for(lambda: new.topic in self.admin.list_topics(timeout=5).topics)
        return str(new.topic)

    def producer(self) -> ck.Producer:
        producer = ck.Producer({"bootstrap.servers": self.kafka, "transactional.id": uuid.uuid4().hex})
        producer.init_transactions(15)
        return producer

    def transact(self, topic: str, records: int, *, commit: bool = True) -> None:
        producer = self.producer()
        producer.begin_transaction()
        for i in range(records):
            producer.produce(topic, b"x", b"%d" % i, 0)
        producer.flush(15)
        producer.commit_transaction(15) if commit else producer.abort_transaction(15)

    def produce(self, topic: str, key: bytes = b"k", at_ms: int = 0) -> None:
        producer = ck.Producer({"bootstrap.servers": self.kafka})
        producer.produce(topic, b"x", key, 0, timestamp=at_ms)
        assert producer.flush(15) == 0

    def commit(self, topic: str, offset: int, group: str = "readers") -> None:
        name = self.prefix + group
        place = [ck.TopicPartition(topic, 0, offset)]
        request = [ck.ConsumerGroupTopicPartitions(name, place)]
        self.admin.alter_consumer_group_offsets(request)[name].result(15)

    def end(self, topic: str) -> int:
        """The next offset to be written."""
        return self.cluster.bounds([TopicPartition(topic, 0)])[TopicPartition(topic, 0)].latest

    def pipeline(self, *elsewhere: Callable[[], list[Position]], budget: Budget | None = None) -> LagPipeline:
        return LagPipeline(self.cluster, elsewhere, SystemClock(), budget)

    def close(self) -> None:
        for future in self.admin.delete_topics(self.topics).values() if self.topics else ():
            assert future.exception(15) is None or "UNKNOWN_TOPIC" in str(future.exception())
        self.cluster.close()


@pytest.fixture
def world(stack: Servers) -> Iterator[World]:
    found = World(stack.kafka)
    yield found
    found.close()


def wait_for(condition: Callable[[], bool], timeout_s: float = 20.0) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.05)


def only(snapshot: Snapshot) -> PartitionLag:
    (found,) = snapshot.partitions
    return found


def test_partition_that_ends_with_markers_is_drained_once_its_last_record_is_read(world: World) -> None:
    topic = world.topic()
    world.transact(topic, 3)
    world.transact(topic, 2, commit=False)
    world.commit(topic, 3)
    lag = only(world.pipeline().measure())
    assert (lag.records, lag.seconds, lag.exact) == (0, 0.0, True)
    # What a subtraction of offsets would say: the marker, the two aborted records and their marker.
    assert world.end(topic) - 3 == 4


def test_unread_records_are_counted_without_markers_and_aborted_ones(world: World) -> None:
    topic = world.topic()
    for records, commit in ((4, True), (3, False), (5, True), (2, False), (1, True)):
        world.transact(topic, records, commit=commit)
    world.commit(topic, 1)
    lag = only(world.pipeline().measure())
    assert (lag.records, lag.exact) == (3 + 5 + 1, True)


def test_records_of_an_open_transaction_are_no_lag_for_nobody_can_read_them(world: World) -> None:
    topic = world.topic()
    world.transact(topic, 1)
    world.commit(topic, 1)
    producer = world.producer()
    producer.begin_transaction()
    producer.produce(topic, b"x", b"k", 0)
    producer.flush(15)
    pipeline = world.pipeline()
    assert only(pipeline.measure()).records == 0
    producer.commit_transaction(15)
    wait_for(lambda: only(pipeline.measure()).records == 1)


def test_seconds_are_the_age_of_the_first_unread_record(world: World) -> None:
    topic, now_ms = world.topic(), time.time_ns() // 1_000_000
    world.produce(topic, at_ms=now_ms - 500_000)
    world.produce(topic, at_ms=now_ms - 100_000)
    world.produce(topic, at_ms=now_ms - 1_000)
    pipeline = world.pipeline()
    world.commit(topic, 1)
    assert only(pipeline.measure()).seconds == pytest.approx(100, abs=20)
    world.commit(topic, 3)
    assert only(pipeline.measure()).seconds == 0.0


def test_nothing_is_read_again_while_position_and_end_stand_still(world: World) -> None:
    topic = world.topic()
    world.transact(topic, 3)
    world.commit(topic, 1)
    world.commit(topic, 3, group="others")
    pipeline = world.pipeline()
    expected = [(world.prefix + "others", 0), (world.prefix + "readers", 2)]
    for _ in range(3):
        found = pipeline.measure().partitions
        assert [(lag.position.group, lag.records) for lag in found] == expected
    assert len(world.cluster.reads) == 1
    world.transact(topic, 1)
    assert [lag.records for lag in pipeline.measure().partitions] == [1, 3]
    assert [wanted[TopicPartition(topic, 0)].begin for wanted in world.cluster.reads] == [1, 4]


def test_far_behind_is_a_bound_that_becomes_exact(world: World) -> None:
    topic = world.topic()
    for _ in range(5):
        world.transact(topic, 4)
    world.commit(topic, 0)
    pipeline = world.pipeline(budget=Budget(records=10))
    first, second = only(pipeline.measure()), only(pipeline.measure())
    # 10 records lie in 12 offsets; the other 13 offsets count until they are read.
    assert (first.records, first.exact) == (10 + 13, False)
    assert first.seconds is not None
    assert first.seconds > 0
    assert second.exact is False
    assert second.records < first.records
    assert (only(pipeline.measure()).records, only(pipeline.measure()).exact) == (20, True)


def test_groups_far_apart_on_one_partition_are_each_right(world: World) -> None:
    topic = world.topic()
    for _ in range(6):
        world.transact(topic, 5)
    world.commit(topic, 0, group="behind")
    world.commit(topic, world.end(topic) - 3, group="close")
    pipeline = world.pipeline(budget=Budget(records=12))
    for _ in range(4):
        lags = {lag.position.group.removeprefix(world.prefix): lag for lag in pipeline.measure().partitions}
        assert (lags["close"].records, lags["close"].exact) == (2, True)
    assert (lags["behind"].records, lags["behind"].exact) == (30, True)


def test_group_that_never_committed_has_every_record_before_it(world: World) -> None:
    topic = world.topic()
    world.transact(topic, 3)
    group = world.prefix + "new"
    consumer = ck.Consumer(
        {
            "bootstrap.servers": world.kafka,
            "group.id": group,
            "client.id": "till-9",
            "enable.auto.commit": False,
            "auto.offset.reset": "earliest",
        }
    )
    try:
        consumer.subscribe([topic])
        wait_for(lambda: bool(consumer.poll(0.2)) or bool(consumer.assignment()))
        lag = only(world.pipeline().measure())
        assert (lag.position.group, lag.position.offset, lag.records) == (group, None, 3)
        assert lag.position.member.client_id == "till-9"
        assert lag.position.member.host
        assert lag.position.member.consumer_id.startswith("till-9-")
    finally:
        consumer.close()


def test_position_that_retention_deleted_counts_from_the_first_record_left(world: World) -> None:
    topic = world.topic()
    world.transact(topic, 6)
    world.commit(topic, 1)
    world.admin.delete_records([ck.TopicPartition(topic, 0, 4)])
    wait_for(lambda: world.cluster.bounds([TopicPartition(topic, 0)])[TopicPartition(topic, 0)].earliest == 4)
    assert only(world.pipeline().measure()).records == 2


def test_deleted_topic_leaves_the_other_topics_of_its_group_measured(world: World) -> None:
    kept, gone = world.topic("kept"), world.topic("gone")
    for topic in (kept, gone):
        world.transact(topic, 2)
        world.commit(topic, 0)
    pipeline = world.pipeline()
    assert [lag.position.partition.topic for lag in pipeline.measure().partitions] == [gone, kept]
    world.admin.delete_topics([gone])[gone].result(15)
    wait_for(lambda: only_or_none(pipeline.measure()) is not None)
    lag = only(pipeline.measure())
    assert (lag.position.partition.topic, lag.records) == (kept, 2)


def only_or_none(snapshot: Snapshot) -> PartitionLag | None:
    return snapshot.partitions[0] if len(snapshot.partitions) == 1 else None


@pytest.mark.long
def test_records_that_compaction_took_do_not_count(world: World) -> None:
    topic = world.topic(
        cleanup_policy="compact",
        segment_ms="200",
        min_cleanable_dirty_ratio="0.01",
        delete_retention_ms="100",
        max_compaction_lag_ms="500",
    )
    for _ in range(20):
        world.produce(topic, b"same")
        world.produce(topic, b"other")
    world.commit(topic, 0)

    def measured() -> int:
        # Only a write makes Kafka close the segment before it.
        world.produce(topic, b"same")
        return only(world.pipeline().measure()).records

    wait_for(lambda: measured() < 20, timeout_s=90)
    assert world.end(topic) > 40
    assert only(world.pipeline().measure()).exact


def test_books_in_postgres_count_over_the_offsets_shown_in_kafka(world: World, stack: Servers) -> None:
    topic = world.topic()
    world.transact(topic, 5)
    group = world.prefix + "readers"
    world.commit(topic, 5)
    topic_id = world.cluster.topic_ids([topic])[topic]
    own = [Position(group, TopicPartition(topic, 0), 2, topic_id=topic_id)]
    assert only(world.pipeline(lambda: own).measure()).records == 3
    # The topic was made anew: an offset of another topic says nothing about this one.
    foreign = [Position(group, TopicPartition(topic, 0), 2, topic_id="another")]
    assert only(world.pipeline(lambda: foreign).measure()).records == 5

    def down() -> list[Position]:
        raise OSError("connection refused")

    assert only(world.pipeline(down).measure()).records == 0
    postgres = PostgresPositions(stack.postgres)
    try:
        assert all(p.topic_id and p.offset is not None for p in postgres())
    finally:
        postgres.close()
