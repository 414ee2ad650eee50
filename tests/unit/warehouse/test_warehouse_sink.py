"""The sink's protocol, on a store in memory that fails on purpose."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import pytest
from prometheus_client import CollectorRegistry

from gold_writer.warehouse.batch import Position, Write
from gold_writer.warehouse.metrics import WarehouseMetrics
from gold_writer.warehouse.pipeline import ENRICHED
from gold_writer.warehouse.sink import OtherTopic, WarehouseSink
from gold_writer.warehouse.store import AnotherWriter, StoreUnavailable
from streamkit.clock import FakeClock
from streamkit.ports import BrokerError, Paused, RecordBatch, TopicPartition
from tests.unit.warehouse.warehouse_records import Records

SALES_0 = TopicPartition(ENRICHED, 0)
TOPIC_ID = "topic-a"


class FlakyStore:
    """Positions and a list of writes. `fail`: the next write fails "before" or "after" its commit."""

    def __init__(self) -> None:
        self.stored: dict[TopicPartition, Position] = {}
        self.written: list[Write] = []
        self.fail: str | None = None

    async def positions(self, topic_ids: Mapping[TopicPartition, str]) -> dict[TopicPartition, Position]:
        for tp, topic_id in topic_ids.items():
            self.stored.setdefault(tp, Position(topic_id, 0))
        return {tp: self.stored[tp] for tp in topic_ids}

    async def write(self, write: Write) -> None:
        fail, self.fail = self.fail, None
        if fail == "before":
            raise StoreUnavailable("down")
        for move in write.moves:
            if self.stored[move.partition] != Position(move.topic_id, move.expected):
                raise AnotherWriter("moved")
        for move in write.moves:
            self.stored[move.partition] = Position(move.topic_id, move.following)
        self.written.append(write)
        if fail == "after":
            raise StoreUnavailable("answer lost")

    async def close(self) -> None:
        return None


class Bench:
    def __init__(self, store: FlakyStore, topic_id: str = TOPIC_ID) -> None:
        self.store = store
        self.topic_id = topic_id
        self.records = Records()
        self.sink = WarehouseSink(
            store,
            self.records.pipeline(),
            lambda topics: dict.fromkeys(topics, self.topic_id),
            metrics=WarehouseMetrics(CollectorRegistry()),
            clock=FakeClock(),
        )

    def batch(self, *events: str, offset: int) -> RecordBatch:
        return self.records.sales(*({"event_id": event} for event in events), offset=offset)


@pytest.fixture
def bench() -> Iterator[Bench]:
    made = Bench(FlakyStore())
    assert made.sink.start_offsets([SALES_0]) == {SALES_0: 0}
    yield made
    made.sink.close()


def test_batch_moves_the_position_behind_it(bench: Bench) -> None:
    bench.sink.write([bench.batch("e1", "e2", offset=0)])
    bench.sink.write([bench.batch("e3", offset=4)])  # offsets 2 and 3 are transaction markers
    assert bench.store.stored == {SALES_0: Position(TOPIC_ID, 5)}
    assert [write.sales.count for write in bench.store.written if write.sales] == [2, 1]


def test_outage_pauses_and_the_same_batch_succeeds_later(bench: Bench) -> None:
    bench.store.fail = "before"
    batch = bench.batch("e1", offset=0)
    with pytest.raises(Paused) as paused:
        bench.sink.write([batch])
    assert paused.value.partitions == {SALES_0}
    bench.sink.write([batch])
    assert len(bench.store.written) == 1


def test_lost_answer_to_a_commit_stores_nothing_twice(bench: Bench) -> None:
    bench.store.fail = "after"
    with pytest.raises(Paused):
        bench.sink.write([bench.batch("e1", "e2", offset=0)])
    bench.sink.write([bench.batch("e1", "e2", "e3", offset=0)])
    assert [write.sales.count for write in bench.store.written if write.sales] == [2, 1]
    assert bench.store.stored == {SALES_0: Position(TOPIC_ID, 3)}


def test_position_moved_by_another_writer_stops_the_stage(bench: Bench) -> None:
    bench.store.stored[SALES_0] = Position(TOPIC_ID, 9)
    with pytest.raises(AnotherWriter):
        bench.sink.write([bench.batch("e1", offset=0)])
    assert bench.store.written == []


def test_books_that_went_back_stop_the_stage(bench: Bench) -> None:
    """As after a restore of an old backup: what lies between would be missing."""
    bench.sink.write([bench.batch("e1", "e2", offset=0)])
    bench.store.fail = "before"
    with pytest.raises(Paused):
        bench.sink.write([bench.batch("e3", offset=2)])
    bench.store.stored[SALES_0] = Position(TOPIC_ID, 1)
    with pytest.raises(AnotherWriter, match="went back"):
        bench.sink.write([bench.batch("e3", offset=2)])


def test_start_is_where_the_books_say(bench: Bench) -> None:
    bench.sink.write([bench.batch("e1", "e2", offset=0)])
    again = Bench(bench.store)
    assert again.sink.start_offsets([SALES_0]) == {SALES_0: 2}
    again.sink.close()


def test_topic_made_anew_is_refused_with_what_to_do(bench: Bench) -> None:
    bench.topic_id = "topic-b"
    with pytest.raises(OtherTopic, match=r"topic-a.*topic-b.*delete this consumer's rows"):
        bench.sink.start_offsets([SALES_0])


def test_registry_outage_pauses(bench: Bench) -> None:
    batch = bench.batch("e1", offset=0)
    bench.records.registry.available = False
    with pytest.raises(Paused, match="registry"):
        bench.sink.write([batch])
    bench.records.registry.available = True
    bench.sink.write([batch])
    assert len(bench.store.written) == 1


def test_start_waits_while_kafka_cannot_be_asked() -> None:
    def unreachable(_: object) -> dict[str, str]:
        raise BrokerError("no broker")

    records = Records()
    sink = WarehouseSink(
        FlakyStore(),
        records.pipeline(),
        unreachable,
        metrics=WarehouseMetrics(CollectorRegistry()),
        clock=FakeClock(),
    )
    with pytest.raises(Paused, match="no broker"):
        sink.start_offsets([SALES_0])
    sink.close()
