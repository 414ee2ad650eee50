"""Heartbeats: sent through the front door, recognised by what measures them, and no sale to anybody else."""

from __future__ import annotations

import datetime as dt
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

import numpy as np
import pytest
from prometheus_client import CollectorRegistry

from deploy.observability.lag.heartbeat import HeartbeatSender
from gold_writer.warehouse.batch import Move, Position, Positions
from gold_writer.warehouse.pipeline import ENRICHED
from query_api.live import Seats
from query_api.live_sales import LiveSales, SalesReader
from schemas import heartbeat
from schemas.codec import Codec
from schemas.fakes import InMemoryRegistry
from streamkit.clock import FakeClock
from streamkit.heartbeat import KEY_PREFIX, heartbeats
from streamkit.memory import MemoryBroker, MemoryConsumer
from streamkit.ports import RecordBatch, TopicPartition
from streamkit.reporting import Reporter
from streamkit.stats import StageStats
from tests.unit.aggregates.aggregates_world import AGGREGATES, AT, World
from tests.unit.query_api.test_query_api_live_sales import TOPIC, Message, enriched
from tests.unit.warehouse.test_warehouse_pipeline import rows
from tests.unit.warehouse.warehouse_records import Records

BEAT = heartbeat.event_id(1_700_000_000_000)


def batch(keys: Sequence[bytes | None], accepted_ms: int = 0) -> RecordBatch:
    n = len(keys)
    headers = [[("ingest-ts", str(accepted_ms).encode())]] * n
    return RecordBatch(
        "t", np.zeros(n, np.int32), np.arange(n), np.full(n, accepted_ms + 50), keys, [b""] * n, headers
    )


def test_prefix_is_the_same_for_records_and_for_events() -> None:
    assert heartbeat.PREFIX.encode() == KEY_PREFIX


@pytest.mark.parametrize(
    ("keys", "places"),
    [
        ([], []),
        ([None, b"", b"536365"], []),
        ([b"536365", BEAT.encode(), None, KEY_PREFIX], [1, 3]),
        ([KEY_PREFIX[:-1], b"x" + KEY_PREFIX, b"\xff\xfe"], []),
    ],
)
def test_heartbeats_are_found_by_their_keys(keys: list[bytes | None], places: list[int]) -> None:
    assert heartbeats(batch(keys)).tolist() == places


def sample(stats: StageStats, name: str) -> float:
    value = stats.registry.get_sample_value(name, {"stage": stats.name})
    assert value is not None
    return value


def test_committed_batch_fills_the_histograms_of_its_way_its_hop_and_its_heartbeats() -> None:
    clock = FakeClock()
    stats = StageStats("warehouse", clock)
    reporter = Reporter(MemoryConsumer(MemoryBroker(clock), "g"), stats, clock, 1.0)
    accepted = clock.now_ms() - 2_000
    reporter.committed([batch([b"1", BEAT.encode(), b"2"], accepted)], 3)
    assert sample(stats, "tillstream_latency_seconds_count") == 3
    assert sample(stats, "tillstream_latency_seconds_sum") == pytest.approx(6.0)
    assert sample(stats, "tillstream_hop_seconds_count") == 3
    assert sample(stats, "tillstream_hop_seconds_sum") == pytest.approx(3 * 1.95)
    assert sample(stats, "tillstream_heartbeat_seconds_count") == 1
    assert sample(stats, "tillstream_heartbeat_seconds_sum") == pytest.approx(2.0)
    assert sample(stats, "tillstream_heartbeat_timestamp_seconds") == accepted / 1000


# Stores ------------------------------------------------------------------------------------------------


def test_warehouse_moves_over_a_heartbeat_and_writes_no_row_for_it() -> None:
    records = Records()
    sales_0 = TopicPartition(ENRICHED, 0)
    beat = {"event_id": BEAT, "invoice_no": BEAT, "date_key": 20310101}
    beside = [records.sales({}, beat, {"event_id": "e3"}, offset=7)]
    write = records.pipeline().prepare(beside, Positions({sales_0: Position("S", 7)}))
    assert write.moves == [Move(sales_0, "S", 7, 10)]
    assert [row["event_id"] for row in rows(write.sales)] == ["e1", "e3"]
    assert write.sales is not None
    assert 20310101 not in write.sales.date_keys

    alone = [records.sales(beat, offset=7)]
    write = records.pipeline().prepare(alone, Positions({sales_0: Position("S", 7)}))
    assert write.moves == [Move(sales_0, "S", 7, 8)]
    assert write.sales is None


def test_heartbeat_changes_no_total_and_tells_its_age() -> None:
    world = World()
    world.send([{}])
    world.run()
    before = world.published()
    beat = {"event_id": BEAT, "invoice_no": BEAT, "ingest_ts": dt.datetime(2026, 1, 1), "invoice_ts": AT}
    world.send([beat])
    world.send([beat], partition=1)
    world.run()
    # The other shard has a total now, of nothing.
    assert {key: value for key, value in world.published().items() if any(value)} == before
    for partition, offset in ((0, 2), (1, 1)):
        last = world.broker.log(TopicPartition(AGGREGATES, partition)).read(0, 100)[-1]
        row = world.codecs[AGGREGATES].decode([last.value]).frame.row(0, named=True)
        # How far the shard has counted: a restart goes on behind the heartbeat.
        assert (row["grain"], row["input_offset"]) == ("total", offset)
        assert dict(last.headers)["heartbeat-ts"] == b"1767225600000"


def test_subscription_of_sales_hands_out_no_heartbeat() -> None:
    codec, schema_id = _codec()
    handed: list[Any] = []
    live = LiveSales(Seats(5))
    live.filters = lambda: {"all": None}  # type: ignore[method-assign]
    live.put = lambda found: handed.extend(found["all"])  # type: ignore[method-assign]
    frame = enriched({"event_id": "a"}, {"event_id": BEAT}, {"event_id": "b"})
    SalesReader(codec, live, lambda action: action()).read(
        [Message(v) for v in codec.encode(frame, schema_id)]
    )
    assert [sale.event_id for sale in handed] == ["a", "b"]


def _codec() -> tuple[Codec, int]:
    registry = InMemoryRegistry()
    schema_id = registry.register(TOPIC.subject, TOPIC.schema_text)
    return Codec(TOPIC.schema_text, registry), schema_id


# The sender --------------------------------------------------------------------------------------------


@contextmanager
def ingest(status: int) -> Iterator[tuple[str, list[str]]]:
    """A server that answers every POST so, and the paths that were asked."""
    asked: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            asked.append(self.path)
            self.send_response(status)
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:
            """Nothing to tell."""

    server = HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}/", asked
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def outcomes(registry: CollectorRegistry) -> dict[str, float | None]:
    name = "tillstream_heartbeats_sent_total"
    return {o: registry.get_sample_value(name, {"outcome": o}) for o in ("accepted", "failed")}


@pytest.mark.parametrize(
    ("status", "expected"), [(202, {"accepted": 1.0, "failed": 0.0}), (503, {"accepted": 0.0, "failed": 1.0})]
)
def test_each_heartbeat_is_counted_by_what_ingest_answered(status: int, expected: dict[str, float]) -> None:
    registry = CollectorRegistry()
    with ingest(status) as (url, asked):
        assert HeartbeatSender(url, 60.0, registry).send() is (status == 202)
    assert asked == ["/v1/heartbeat"]
    assert outcomes(registry) == expected
    count = registry.get_sample_value("tillstream_heartbeat_request_seconds_count", {"door": "http"})
    assert count == expected["accepted"]


def test_heartbeats_go_on_after_one_that_failed_and_stop_with_the_process() -> None:
    registry = CollectorRegistry()
    with ingest(202) as (url, asked), HeartbeatSender(url, 0.01, registry):
        while len(asked) < 3:
            threading.Event().wait(0.01)
    sender = HeartbeatSender("http://127.0.0.1:9", 0.01, CollectorRegistry())
    assert sender.send() is False
    with HeartbeatSender("http://127.0.0.1:9", 0.0, CollectorRegistry()) as none:
        assert not none._thread.is_alive()
