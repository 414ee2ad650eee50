"""Versions in a real Postgres are those of the topics, whatever sales brought before or after them."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator, Sequence
from typing import Any

import asyncpg
import numpy as np
import polars as pl
import pytest

from gold_writer.warehouse.dimensions import CUSTOMER_TABLE, PRODUCT_TABLE, TABLES
from gold_writer.warehouse.pipeline import ENRICHED, WarehousePipeline
from schemas.catalogue import load_topics
from schemas.codec import Codec
from streamkit.ports import RecordBatch
from tests.integration.test_warehouse_postgres import template, warehouse
from tests.integration.warehouse_bench import Warehouse
from tests.unit.dimensions.dimension_model import Change, Sighting
from tests.unit.dimensions.dimension_world import BASE, Builder

__all__ = ["template", "warehouse"]
pytestmark = pytest.mark.integration

RETAIL, GOLD = ("RETAIL", "EIRE"), ("GOLD", "EIRE")
T = [BASE + dt.timedelta(days=n) for n in range(9)]
COLUMNS = [c.name for c in CUSTOMER_TABLE.columns]


class Dimensions:
    """The topic as the builder writes it, a batch for each step, and the warehouse behind it."""

    def __init__(self, warehouse: Warehouse) -> None:
        self.warehouse = warehouse
        records = warehouse.records
        topics = load_topics()
        self.codecs = {
            t.dimension.topic: Codec(topics[t.dimension.topic].schema_text, records.registry) for t in TABLES
        }
        self.builder = Builder()
        self.offset = 0
        sales = Codec(topics[ENRICHED].schema_text, records.registry)
        quarantine = Codec(topics["sales.quarantine.v1"].schema_text, records.registry)
        dimensions = {t.dimension.topic: (t, self.codecs[t.dimension.topic]) for t in TABLES}
        pipeline = WarehousePipeline(sales=sales, quarantine=quarantine, dimensions=dimensions)
        self.sink = warehouse.sink(pipeline=pipeline)

    def feed(self, *news: Change | Sighting) -> RecordBatch:
        """The records of one step, not stored yet."""
        before = dict(self.builder.topic)
        self.builder.feed(news)
        gone = [key for key in before if key not in self.builder.topic]
        changed = {k: row for k, row in self.builder.topic.items() if before.get(k) != row}
        topic = CUSTOMER_TABLE.dimension.topic
        codec = self.codecs[topic]
        schema_id = self.warehouse.records.registry.register(
            f"{topic}-value", load_topics()[topic].schema_text
        )
        values = codec.encode(pl.DataFrame(list(changed.values()), schema=codec.columns), schema_id)
        keys = [key.encode() for key in (*gone, *changed)]
        return self._batch(topic, keys, [*([None] * len(gone)), *values])

    def _batch(self, topic: str, keys: Sequence[bytes], values: Sequence[bytes | None]) -> RecordBatch:
        count = len(values)
        begin, self.offset = self.offset, self.offset + count
        return RecordBatch(
            topic,
            np.zeros(count, np.int32),
            np.arange(begin, begin + count),
            np.zeros(count, np.int64),
            list(keys),
            list(values),
            [()] * count,
        )

    def stored(self) -> list[dict[str, Any]]:
        rows = self.warehouse.rows(
            f"SELECT {', '.join(COLUMNS)} FROM warehouse.dim_customers WHERE customer_id IS NOT NULL "
            "ORDER BY customer_id, effective_date"
        )
        return [{name: _naive(value) for name, value in zip(COLUMNS, row, strict=True)} for row in rows]

    def published(self) -> list[dict[str, Any]]:
        rows = self.builder.versions.select(COLUMNS).sort("customer_id", "effective_date")
        return rows.to_dicts()


def _naive(value: Any) -> Any:
    return value.astimezone(dt.UTC).replace(tzinfo=None) if isinstance(value, dt.datetime) else value


@pytest.fixture
def dimensions(warehouse: Warehouse) -> Iterator[Dimensions]:
    made = Dimensions(warehouse)
    yield made
    made.sink.close()


def sale_of(dimensions: Dimensions, at: dt.datetime, key: int, offset: int) -> RecordBatch:
    row = {
        "event_id": f"e{offset}",
        "customer_id": "a",
        "country": "EIRE",
        "invoice_ts": at,
        "customer_key": key,
    }
    return dimensions.warehouse.records.sales(row, offset=offset)


def test_versions_are_stored_to_the_microsecond_and_withdrawn_again(dimensions: Dimensions) -> None:
    late = T[3] + dt.timedelta(microseconds=1)
    dimensions.sink.write([dimensions.feed(Change("a", T[1], 1, RETAIL), Change("a", late, 2, GOLD))])
    assert dimensions.stored() == dimensions.published()
    assert dimensions.stored()[1]["effective_date"] == late
    dimensions.sink.write([dimensions.feed(Change("a", late, 3, RETAIL), Change("b", T[2], 4, None))])
    assert dimensions.stored() == dimensions.published()
    assert [(row["customer_id"], row["is_deleted"]) for row in dimensions.stored()] == [
        ("a", False),
        ("b", True),
    ]


def test_change_in_the_past_is_stored_in_one_batch_though_ranges_move(dimensions: Dimensions) -> None:
    dimensions.sink.write([dimensions.feed(Change("a", T[1], 1, RETAIL), Change("a", T[5], 2, GOLD))])
    dimensions.sink.write([dimensions.feed(Change("a", T[3], 3, ("NEW", "France")))])
    assert [row["segment"] for row in dimensions.stored()] == ["RETAIL", "NEW", "GOLD"]
    assert dimensions.stored() == dimensions.published()


def test_sale_of_a_version_that_is_not_there_yet_gets_a_row_that_the_version_fills(
    dimensions: Dimensions,
) -> None:
    first = dimensions.feed(Change("a", T[1], 1, RETAIL))
    second = dimensions.feed(Change("a", T[3], 2, GOLD))
    key = dimensions.builder.versions.sort("effective_date")["customer_key"][1]
    dimensions.sink.write([first])
    dimensions.sink.write([sale_of(dimensions, T[4], key, 0)])
    assert {row["customer_key"] for row in dimensions.stored()} == set(
        dimensions.builder.versions["customer_key"]
    )
    dimensions.sink.write([second])
    assert dimensions.stored() == dimensions.published()


def test_inferred_member_of_a_sale_is_the_one_that_the_builder_publishes(dimensions: Dimensions) -> None:
    inferred = dimensions.feed(Sighting("a", T[4], "EIRE"))
    key = dimensions.builder.versions["customer_key"].item()
    dimensions.sink.write([sale_of(dimensions, T[4], key, 0)])
    stub, published = dimensions.stored()[0], dimensions.published()[0]
    # The fact's own row says nothing of when it was recorded, and its codes are those of the sale.
    assert {**stub, "recorded_at": None} == {**published, "recorded_at": None}
    dimensions.sink.write([inferred])
    assert dimensions.stored() == dimensions.published()


def test_overlapping_versions_are_refused(warehouse: Warehouse) -> None:
    """The constraint can go red: two open versions of one member."""
    insert = (
        "INSERT INTO warehouse.dim_customers (customer_key, customer_id, effective_date, is_inferred) "
        "VALUES (1, 'a', '1900-01-01', false), (2, 'a', '2010-01-01', false)"
    )
    with pytest.raises(asyncpg.ExclusionViolationError):
        warehouse.run(insert)


def test_figures_as_of_a_time_have_the_revision_of_that_time(warehouse: Warehouse) -> None:
    sink = warehouse.sink()
    early, later = T[1], T[2]
    sink.write(
        [warehouse.records.sales({"event_id": "e1", "revision": 0, "recorded_at": early, "customer_key": 5})]
    )
    sink.write(
        [
            warehouse.records.sales(
                {"event_id": "e1", "revision": 1, "recorded_at": later, "customer_key": 6}, offset=1
            )
        ]
    )
    assert warehouse.rows("SELECT revision, customer_key FROM warehouse.fact_sales") == [(1, 6)]
    kept = "SELECT revision, customer_key, recorded_at, superseded_at FROM warehouse.fact_sales_superseded"
    assert warehouse.rows(kept) == [(0, 5, early.replace(tzinfo=dt.UTC), later.replace(tzinfo=dt.UTC))]


def test_topics_of_both_dimensions_have_a_table() -> None:
    assert [t.dimension.topic for t in (CUSTOMER_TABLE, PRODUCT_TABLE)] == [
        "dim.customers.v1",
        "dim.products.v1",
    ]
    for table in TABLES:
        fields = set(Codec(load_topics()[table.dimension.topic].schema_text, None).columns)  # type: ignore[arg-type]
        assert {c.source for c in table.columns} == fields
