"""The star schema's upkeep on a real Postgres, beside the real writer."""

from __future__ import annotations

import asyncio
import json
import uuid
from collections.abc import Iterator
from datetime import date, datetime
from pathlib import Path
from typing import Any

import asyncpg
import pytest
from prometheus_client import CollectorRegistry

from deploy.postgres.migrate import migrate
from gold_writer.maintenance.metrics import MaintenanceMetrics
from gold_writer.maintenance.settings import MaintenanceSettings
from gold_writer.maintenance.warehouse_jobs import VIEWS, BrokenKeys, WarehouseJobs
from streamkit.clock import FakeClock
from tests.integration.warehouse_bench import CONSUMER, Warehouse, with_database

pytestmark = pytest.mark.integration
TODAY_MS = 1_767_225_600_000  # 2026-01-01


class World:
    def __init__(self, dsn: str, folder: Path) -> None:
        self.warehouse = Warehouse(dsn)
        self.registry = CollectorRegistry()
        self.clock = FakeClock(TODAY_MS)
        settings = MaintenanceSettings(
            postgres=dsn, lake=folder, warehouse_consumer=CONSUMER, check_keys_grace_s=0
        )
        self.jobs = WarehouseJobs(settings, MaintenanceMetrics(self.registry), self.clock)
        self.sink = self.warehouse.sink()
        self.offset = 0

    def write(self, *sales: dict[str, Any]) -> None:
        self.sink.write([self.warehouse.records.sales(*sales, offset=self.offset)])
        self.offset += len(sales)


@pytest.fixture
def world(stack: Any, tmp_path: Path) -> Iterator[World]:
    server, name = Warehouse(stack.postgres), f"upkeep_{uuid.uuid4().hex[:12]}"
    server.run(f"CREATE DATABASE {name}")
    dsn = with_database(stack.postgres, name)
    asyncio.run(migrate(dsn))
    made = World(dsn, tmp_path)
    yield made
    made.warehouse.close()
    server.run(f"DROP DATABASE {name} WITH (FORCE)")


def sale(number: int, **fields: Any) -> dict[str, Any]:
    return {"event_id": f"e{number}", "invoice_no": f"{number // 2}", "line_no": number % 2 + 1, **fields}


def test_partitions_are_there_before_the_first_sale_of_their_month(world: World) -> None:
    made = """
        SELECT inhrelid::regclass::text FROM pg_inherits
        WHERE inhparent = 'warehouse.fact_sales'::regclass ORDER BY 1
    """
    world.jobs.make_partitions()
    world.jobs.make_partitions()
    assert world.warehouse.rows(made) == [
        (f"warehouse.fact_sales_{month}",) for month in (202601, 202602, 202603, 202604)
    ]
    world.write(sale(1), sale(2, invoice_ts=datetime(2026, 2, 3)))
    assert (("warehouse.fact_sales_201012",) in world.warehouse.rows(made)) is True
    missing = """
        SELECT p.relname, i.relname FROM pg_inherits h JOIN pg_class p ON p.oid = h.inhrelid
        CROSS JOIN (SELECT indexrelid FROM pg_index WHERE indrelid = 'warehouse.fact_sales'::regclass) AS t
        JOIN pg_class i ON i.oid = t.indexrelid
        WHERE h.inhparent = 'warehouse.fact_sales'::regclass AND NOT EXISTS (
            SELECT FROM pg_inherits ih JOIN pg_index c ON c.indexrelid = ih.inhrelid
            WHERE ih.inhparent = t.indexrelid AND c.indrelid = p.oid)
    """
    assert world.warehouse.rows(missing) == [], "every partition has every index"


def test_the_calendar_fills_days_that_the_writer_added_and_leaves_the_rest(world: World) -> None:
    world.write(sale(1, invoice_ts=datetime(2010, 12, 2)))
    told = "fiscal_year, fiscal_quarter, is_holiday, holidays"
    day = f"SELECT {told} FROM warehouse.dim_date WHERE full_date = $1"
    assert world.warehouse.rows(day, date(2010, 12, 2)) == [(None, None, None, "{}")]
    world.jobs.fill_calendar()
    assert world.warehouse.rows(day, date(2010, 12, 2)) == [(2011, 3, False, "{}")]
    ((*_, holiday, names),) = world.warehouse.rows(day, date(2026, 12, 25))
    assert holiday is True
    assert {"GB", "DE", "FR"} <= set(json.loads(names))
    found = "SELECT count(*) FROM warehouse.dim_date WHERE holidays ? 'GB' AND full_date = '2026-12-25'"
    assert world.warehouse.rows(found) == [(1,)]
    before = world.warehouse.rows("SELECT xmin::text, * FROM warehouse.dim_date ORDER BY date_key")
    world.jobs.fill_calendar()
    assert world.warehouse.rows("SELECT xmin::text, * FROM warehouse.dim_date ORDER BY date_key") == before
    world.write(sale(2, invoice_ts=datetime(2026, 2, 3)))
    assert world.warehouse.rows("SELECT count(*) FROM warehouse.dim_date WHERE fiscal_year IS NULL") == [(0,)]


def test_views_equal_the_facts_and_follow_them_without_locking_readers_out(world: World) -> None:
    world.write(*(sale(n, country=None if n % 3 else "EIRE", is_return=n % 4 == 0) for n in range(20)))
    world.jobs.refresh_views()
    lines = {view: f"SELECT sum(lines), sum(revenue) FROM warehouse.{view}" for view in VIEWS}
    facts = world.warehouse.rows("SELECT count(*), sum(amount_gbp) FROM warehouse.fact_sales")
    assert all(world.warehouse.rows(query) == facts for query in lines.values())
    world.write(*(sale(n) for n in range(20, 30)))
    assert all(world.warehouse.rows(query) == facts for query in lines.values())
    holds = "BEGIN; SELECT count(*) FROM warehouse.sales_by_day"

    async def beside_a_reader() -> None:
        reader = await asyncpg.connect(world.warehouse.dsn)
        try:
            await reader.execute(holds)
            await asyncio.to_thread(world.jobs.refresh_views)
        finally:
            await reader.close()

    asyncio.run(beside_a_reader())
    facts = world.warehouse.rows("SELECT count(*), sum(amount_gbp) FROM warehouse.fact_sales")
    assert facts[0][0] == 30
    assert all(world.warehouse.rows(query) == facts for query in lines.values())
    world.warehouse.run("REFRESH MATERIALIZED VIEW warehouse.sales_by_day WITH NO DATA")
    world.jobs.refresh_views()
    assert world.warehouse.rows("SELECT relispopulated FROM pg_class WHERE relname = 'sales_by_day'") == [
        (False,)
    ], "nothing new was written, so nothing is refreshed"


def test_a_fact_without_its_dimension_row_is_found_and_named(world: World) -> None:
    world.write(sale(1), sale(2, customer_id=None))
    world.jobs.check_keys()
    world.warehouse.run("DELETE FROM warehouse.dim_products")
    with pytest.raises(BrokenKeys, match="product_key: 2, as e1"):
        world.jobs.check_keys()
    found = {
        reference: world.registry.get_sample_value(
            "tillstream_warehouse_broken_keys", {"reference": reference}
        )
        for reference in ("customer_key", "product_key", "invoice_key", "date_key")
    }
    assert found == {"customer_key": 0, "product_key": 2, "invoice_key": 0, "date_key": 0}


MORE_FACTS = """
CREATE TEMP TABLE more AS SELECT f.*, n FROM warehouse.fact_sales AS f, generate_series(1, 20000) AS n;
UPDATE more SET event_id = n::text, product_key = n % 500, customer_key = n % 700, country = 'c' || n % 7,
    stock_code = 's' || n % 500, total_amount = n % 2000, invoice_ts = invoice_ts + n * interval '1 second';
ALTER TABLE more DROP COLUMN n;
INSERT INTO warehouse.fact_sales SELECT * FROM more
"""
QUESTIONS = {
    "product_key_country": "SELECT sum(total_amount), sum(quantity) FROM warehouse.fact_sales "
    "WHERE product_key = 7 AND country = 'c3'",
    "stock_code_invoice_ts_event_id": "SELECT event_id FROM warehouse.fact_sales WHERE stock_code = 's7' "
    "AND (invoice_ts, event_id) < (now(), 'e') ORDER BY invoice_ts DESC, event_id DESC LIMIT 50",
    "customer_key_product_key": "SELECT product_key FROM warehouse.fact_sales "
    "WHERE customer_key = 7 AND total_amount > 1000",
    "customer_key_date_key": "SELECT count(*) FROM warehouse.fact_sales WHERE customer_key = 7",
    "recorded_at_loaded_at": "SELECT count(*) FROM warehouse.fact_sales WHERE recorded_at < '2001-01-01'",
}


def test_each_question_that_an_index_was_made_for_uses_it(world: World) -> None:
    world.write(sale(1))
    world.warehouse.run(MORE_FACTS)
    world.warehouse.run("VACUUM ANALYZE warehouse.fact_sales")
    plans = {
        index: "\n".join(line for (line,) in world.warehouse.rows(f"EXPLAIN {question}"))
        for index, question in QUESTIONS.items()
    }
    assert {index: index in plan for index, plan in plans.items()} == dict.fromkeys(QUESTIONS, True), plans
    assert "Index Only Scan" in plans["product_key_country"]
