"""Change records and dimension versions into their tables: once, through failures at any point."""

from __future__ import annotations

import json
import threading
from collections.abc import Mapping
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from deltalake import DeltaTable
from prometheus_client import CollectorRegistry

from gold_writer.maintenance import streams
from gold_writer.maintenance.metrics import MaintenanceMetrics
from schemas.catalogue import load_topics
from schemas.codec import Codec
from schemas.fakes import InMemoryRegistry
from streamkit.ports import RecordBatch, TopicPartition

CUSTOMERS, PRODUCTS, CHANGES = "dim.customers.v1", "dim.products.v1", "cdc.shop.stock.levels"
Log = dict[TopicPartition, list[tuple[bytes, bytes | None]]]


class FakeReader:
    """Topics as lists; gives at most two records of a partition at once."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._positions: dict[TopicPartition, int] = {}

    def topics(self) -> dict[str, int]:
        names = {tp.topic for tp in self._world.log} | {"sales.raw.v1"}
        return dict.fromkeys(names, 2)

    def open(self, positions: Mapping[TopicPartition, int | None]) -> None:
        self._positions = {tp: at or 0 for tp, at in positions.items()}

    def poll(self, max_records: int, timeout_s: float) -> list[RecordBatch]:
        batches = []
        for tp in sorted(self._positions):
            begin = self._positions[tp]
            records = self._world.log.get(tp, [])[begin : begin + 2]
            if records:
                self._positions[tp] += len(records)
                batches.append(batch_of(tp, begin, records))
        return batches

    def close(self) -> None:
        self._world.closed += 1


def batch_of(tp: TopicPartition, begin: int, records: list[tuple[bytes, bytes | None]]) -> RecordBatch:
    size = len(records)
    return RecordBatch(
        tp.topic,
        np.full(size, tp.partition, np.int32),
        np.arange(begin, begin + size, dtype=np.int64),
        np.full(size, 1_767_225_600_123, np.int64),
        [key for key, _ in records],
        [value for _, value in records],
        [[("source", b"\xff")]] * size,
    )


class World:
    def __init__(self, lake: Path) -> None:
        self.lake = lake
        self.log: Log = {}
        self.closed = 0
        registry = InMemoryRegistry()
        catalogue = load_topics()
        self.codecs = {}
        for name in (CUSTOMERS, PRODUCTS):
            schema_id = registry.register(f"{name}-value", catalogue[name].schema_text)
            self.codecs[name] = (Codec(catalogue[name].schema_text, registry), schema_id)
        self.examples = {
            name: json.loads((Path("schemas/examples") / f"{name}.json").read_text()) for name in self.codecs
        }
        self.streams = self.new_process()

    def new_process(self) -> streams.Streams:
        return streams.Streams(
            self.lake,
            lambda: FakeReader(self),
            lambda topics: {topic: f"id-of-{topic}" for topic in topics},
            {name: codec for name, (codec, _) in self.codecs.items()},
            MaintenanceMetrics(CollectorRegistry()),
            change_prefix="cdc.shop.",
            lock=threading.Lock(),
        )

    def send(self, topic: str, key: str, value: bytes | None, partition: int = 0) -> None:
        self.log.setdefault(TopicPartition(topic, partition), []).append((key.encode(), value))

    def version(self, topic: str, key: str, *, withdrawn: bool = False, **fields: Any) -> None:
        codec, schema_id = self.codecs[topic]
        frame = pl.DataFrame([encodable(self.examples[topic][0]) | fields], infer_schema_length=None)
        self.send(topic, key, None if withdrawn else codec.encode(frame, schema_id)[0])

    def table(self, name: str) -> pl.DataFrame:
        return pl.read_delta(str(self.lake / name))


def encodable(example: dict[str, Any]) -> dict[str, Any]:
    times = ("effective_date", "expiry_date", "inferred_from", "valid_from", "recorded_at")
    return {
        name: datetime.fromisoformat(value) if name in times and value else value
        for name, value in example.items()
    }


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


def test_change_records_are_in_bronze_byte_for_byte_and_once_through_restarts(world: World) -> None:
    for n in range(5):
        world.send(CHANGES, f"k{n}", b"\x00" + bytes([n]), partition=n % 2)
    world.send(CHANGES, "gone", None)
    world.streams.run()
    world.streams.run()
    world.send(CHANGES, "later", b"x")
    world.new_process().run()
    rows = world.table("bronze/cdc_stock_levels")
    assert sorted(rows["key"].to_list()) == [b"gone", b"k0", b"k1", b"k2", b"k3", b"k4", b"later"]
    assert rows.filter(pl.col("key") == b"k3")["value"].to_list() == [b"\x00\x03"]
    assert rows.filter(pl.col("key") == b"gone")["value"].to_list() == [None]
    assert not rows.select("topic_id", "partition", "offset").is_duplicated().any()
    assert rows["kafka_ts"].unique().to_list() == [datetime(2026, 1, 1, 0, 0, 0, 123_000, tzinfo=UTC)]
    assert rows["headers"][0].to_list() == [{"key": "source", "value": b"\xff"}]


def test_a_version_is_updated_by_its_key_and_a_tombstone_removes_it(world: World) -> None:
    second = datetime(2011, 3, 1, tzinfo=UTC)
    world.version(CUSTOMERS, "17850|1900-01-01", segment="A")
    world.version(CUSTOMERS, "17850|2011-03-01", effective_date=second, segment="B", is_current=True)
    world.version(CUSTOMERS, "9|1900-01-01", customer_id="9")
    world.streams.run()
    assert len(world.table("gold/dim_customers")) == 3
    world.version(CUSTOMERS, "17850|1900-01-01", segment="C", expiry_date=second)
    world.version(CUSTOMERS, "9|1900-01-01", withdrawn=True)
    world.version(CUSTOMERS, "never seen|1900-01-01", withdrawn=True)
    world.streams.run()
    rows = world.table("gold/dim_customers").sort("effective_date")
    assert rows.select("record_key", "segment", "expiry_date", "effective_date").rows() == [
        ("17850|1900-01-01", "C", second, datetime(1900, 1, 1, tzinfo=UTC)),
        ("17850|2011-03-01", "B", rows["expiry_date"][1], second),
    ]


def test_prices_are_exact_decimals(world: World) -> None:
    world.version(PRODUCTS, "85123A|1900-01-01", list_price_micros=2_550_001)
    world.version(PRODUCTS, "post|1900-01-01", list_price_micros=None)
    world.streams.run()
    prices = dict(world.table("gold/dim_products").select("record_key", "list_price").iter_rows())
    assert prices == {"85123A|1900-01-01": Decimal("2.550001"), "post|1900-01-01": None}


@pytest.mark.parametrize("fails_at", range(1, 5))
def test_a_failure_before_or_after_any_commit_loses_and_doubles_nothing(
    world: World, fails_at: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    for n in range(4):
        world.send(CHANGES, f"k{n}", b"v")
        world.version(CUSTOMERS, f"{n}|1900-01-01", customer_id=str(n))
    plain, calls = streams.Streams._write, []

    def write(self: streams.Streams, batch: RecordBatch) -> None:
        calls.append(batch)
        if len(calls) == fails_at and fails_at % 2:
            raise OSError("before the commit")
        plain(self, batch)
        if len(calls) == fails_at:
            raise OSError("after the commit")

    monkeypatch.setattr(streams.Streams, "_write", write)
    with pytest.raises(OSError, match="the commit"):
        world.streams.run()
    assert world.closed == 1
    world.streams.run()
    assert sorted(world.table("bronze/cdc_stock_levels")["key"].to_list()) == [b"k0", b"k1", b"k2", b"k3"]
    assert sorted(world.table("gold/dim_customers")["customer_id"].to_list()) == ["0", "1", "2", "3"]


def test_positions_outside_the_commit_would_lose_or_double(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The check can fail: without marks in the table a restart appends everything again."""
    monkeypatch.setattr(streams, "marked", lambda marks: None)
    world.send(CHANGES, "k", b"v")
    world.streams.run()
    world.new_process().run()
    assert world.table("bronze/cdc_stock_levels")["key"].to_list() == [b"k", b"k"]


def test_a_record_that_cannot_be_decoded_stops_the_stream_with_its_coordinates(world: World) -> None:
    world.version(CUSTOMERS, "1|1900-01-01", customer_id="1")
    world.send(CUSTOMERS, "2|1900-01-01", b"no Avro")
    with pytest.raises(streams.CorruptInput, match=r"dim\.customers\.v1\[0\]@1"):
        world.streams.run()
    assert DeltaTable(str(world.lake / "gold/dim_customers")).count() == 0


def test_a_topic_that_comes_later_is_read_from_its_beginning(world: World) -> None:
    world.send(CHANGES, "k", b"v")
    world.streams.run()
    world.send("cdc.shop.products", "p", b"v")
    for _ in range(streams._LOOK_FOR_TOPICS_EVERY):
        world.streams.run()
    assert world.table("bronze/cdc_products")["key"].to_list() == [b"p"]
    assert world.table("bronze/cdc_stock_levels")["key"].to_list() == [b"k"]
