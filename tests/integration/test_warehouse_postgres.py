"""The warehouse's sink on a real Postgres: what is stored, once, whatever breaks."""

from __future__ import annotations

import asyncio
import contextlib
import datetime as dt
import itertools
import subprocess
import sys
import threading
import uuid
from collections.abc import AsyncIterator, Iterator
from decimal import Decimal
from typing import Any

import asyncpg
import pytest

from deploy.postgres.migrate import migrate
from gold_writer.warehouse import store
from gold_writer.warehouse.pipeline import ENRICHED, QUARANTINED
from gold_writer.warehouse.sink import OtherTopic
from gold_writer.warehouse.store import AnotherWriter, NotMigrated
from streamkit.ports import Paused, RecordBatch, TopicPartition
from tests.integration.warehouse_bench import Warehouse, with_database
from tests.unit.warehouse.warehouse_records import AT

pytestmark = pytest.mark.integration

SALES_0, SALES_1 = TopicPartition(ENRICHED, 0), TopicPartition(ENRICHED, 1)
ITEMS_0 = TopicPartition(QUARANTINED, 0)
CUT_CONNECTIONS = """
SELECT pg_terminate_backend(pid) FROM pg_stat_activity
WHERE application_name = 'test' AND datname = current_database()
"""


async def _execute(dsn: str, statement: str) -> None:
    connection = await asyncpg.connect(dsn)
    try:
        await connection.execute(statement)
    finally:
        await connection.close()


@pytest.fixture(scope="module")
def template(stack: Any) -> Iterator[tuple[str, str]]:
    """The server's DSN and the name of a migrated database to copy."""
    name = f"template_{uuid.uuid4().hex[:12]}"
    asyncio.run(_execute(stack.postgres, f"CREATE DATABASE {name}"))
    asyncio.run(migrate(with_database(stack.postgres, name)))
    yield stack.postgres, name
    asyncio.run(_execute(stack.postgres, f"DROP DATABASE {name} WITH (FORCE)"))


@pytest.fixture
def warehouse(template: tuple[str, str]) -> Iterator[Warehouse]:
    server, copied = template
    name = f"warehouse_{uuid.uuid4().hex[:12]}"
    asyncio.run(_execute(server, f"CREATE DATABASE {name} TEMPLATE {copied}"))
    made = Warehouse(with_database(server, name))
    yield made
    made.close()
    asyncio.run(_execute(server, f"DROP DATABASE {name} WITH (FORCE)"))


def mixed_batches(warehouse: Warehouse) -> list[RecordBatch]:
    sales = [{"event_id": f"e{i}", "invoice_no": f"{i // 3}", "line_no": i % 3 + 1} for i in range(10)]
    return [warehouse.records.sales(*sales), warehouse.records.quarantine({}, {"item_id": "i2"})]


# What is stored ------------------------------------------------------------------------------------


def test_every_column_arrives_as_it_was_sent(warehouse: Warehouse) -> None:
    row = {
        "event_id": "e-1",
        "description": 'say "hi", 漢\n\\.\x00',
        "quantity": -3,
        "unit_price_micros": 1_234_567,
        "total_amount_micros": -3_703_701,
        "amount_gbp_micros": None,
        "customer_id": None,
        "country": None,
        "country_code": None,
        "region": None,
        "warnings": ["NO_CUSTOMER", "UNKNOWN_COUNTRY"],
        "quality_score": 0.7,
        "invoice_ts": dt.datetime(2011, 1, 31, 23, 59, 59, 999_000),
        "revision": 4,
        "raw_offset": 2**40,
    }
    warehouse.sink().write([warehouse.records.sales(row, offset=9, partition=1)])
    ((*stored,),) = warehouse.rows(
        """SELECT event_id, description, quantity, unit_price, total_amount, amount_gbp, customer_id,
        customer_key, country, region, warnings, quality_score, invoice_ts, date_key, revision, raw_offset,
        enriched_partition, enriched_offset, recorded_at FROM warehouse.fact_sales"""
    )
    assert stored == [
        "e-1", 'say "hi", 漢\n\\.\u2400', -3, Decimal("1.234567"), Decimal("-3.703701"), None, None, -1,
        None, None, ["NO_CUSTOMER", "UNKNOWN_COUNTRY"], 0.7,
        dt.datetime(2011, 1, 31, 23, 59, 59, 999_000, tzinfo=dt.UTC), 20110131, 4, 2**40, 1, 9,
        AT.replace(tzinfo=dt.UTC),
    ]  # fmt: skip


def test_largest_amounts_fit(warehouse: Warehouse) -> None:
    most = 10**18 - 1
    row = {"unit_price_micros": most, "total_amount_micros": -most, "amount_gbp_micros": 2**63 - 1}
    warehouse.sink().write([warehouse.records.sales(row)])
    amounts = warehouse.rows("SELECT unit_price, total_amount, amount_gbp FROM warehouse.fact_sales")
    assert amounts == [
        (Decimal("999999999999.999999"), Decimal("-999999999999.999999"), Decimal("9223372036854.775807"))
    ]


def test_replayed_batch_changes_nothing(warehouse: Warehouse) -> None:
    warehouse.sink().write(mixed_batches(warehouse))
    before = warehouse.everything()
    assert [len(before[t]) for t in ("fact_sales", "dim_invoice", "quarantine")] == [10, 4, 2]
    warehouse.run("DELETE FROM ops.stream_offsets")
    warehouse.sink().write(mixed_batches(warehouse))
    assert warehouse.everything() == before


@pytest.mark.parametrize(("second", "stays"), [(2, "new"), (1, "old"), (0, "old")])
def test_only_a_higher_revision_replaces(warehouse: Warehouse, second: int, stays: str) -> None:
    sink = warehouse.sink()
    sink.write([warehouse.records.sales({"revision": 1, "region": "old"}, offset=0)])
    sink.write([warehouse.records.sales({"revision": second, "region": "new"}, offset=1)])
    facts = warehouse.rows("SELECT event_id, region, revision FROM warehouse.fact_sales")
    assert facts == [("e1", stays, max(second, 1))]


def test_partitions_and_calendar_follow_the_sales(warehouse: Warehouse) -> None:
    days = [dt.datetime(2010, 12, 31, 23), dt.datetime(2011, 1, 1), dt.datetime(2000, 2, 29)]
    rows = [{"event_id": f"e{i}", "invoice_ts": day} for i, day in enumerate(days)]
    warehouse.sink().write([warehouse.records.sales(*rows)])
    assert warehouse.rows(
        "SELECT tableoid::regclass::text, event_id FROM warehouse.fact_sales ORDER BY 2"
    ) == [
        ("warehouse.fact_sales_201012", "e0"),
        ("warehouse.fact_sales_201101", "e1"),
        ("warehouse.fact_sales_200002", "e2"),
    ]
    assert warehouse.rows(
        "SELECT date_key, full_date, iso_year, iso_week, day_name FROM warehouse.dim_date ORDER BY 1"
    ) == [
        (20000229, dt.date(2000, 2, 29), 2000, 9, "Tuesday"),
        (20101231, dt.date(2010, 12, 31), 2010, 52, "Friday"),
        (20110101, dt.date(2011, 1, 1), 2010, 52, "Saturday"),
    ]


# Dimensions and quarantine, whatever the order ------------------------------------------------------


def test_dimensions_do_not_depend_on_the_order_of_arrival(warehouse: Warehouse) -> None:
    day = dt.timedelta(days=1)
    arrivals: list[dict[str, Any]] = [
        {"event_id": "e1", "line_no": 2, "description": "LATER", "country": "USA", "invoice_ts": AT + day},
        {"event_id": "e2", "line_no": 1, "description": "FIRST", "country": "EIRE", "invoice_ts": AT},
        {"event_id": "e3", "line_no": 3, "description": None, "country": None, "invoice_ts": AT - day},
        {"event_id": "e4", "line_no": 4, "customer_id": None, "stock_code": "POST", "is_product": False},
    ]
    outcomes = []
    sink, offsets = warehouse.sink(), itertools.count()
    for order in itertools.permutations(arrivals):
        warehouse.run(
            "TRUNCATE warehouse.fact_sales, warehouse.dim_invoice;"
            "DELETE FROM warehouse.dim_customers WHERE is_inferred;"
            "DELETE FROM warehouse.dim_products WHERE is_inferred"
        )
        for row in order:
            sink.write([warehouse.records.sales(row, offset=next(offsets))])
        outcomes.append(
            warehouse.rows(
                "SELECT customer_id, country, is_inferred, version_number FROM warehouse.dim_customers"
            )
            + warehouse.rows("SELECT stock_code, description FROM warehouse.dim_products ORDER BY stock_code")
            + warehouse.rows("SELECT invoice_no, country, header_line_no FROM warehouse.dim_invoice")
        )
    assert outcomes[0] == [
        (None, None, False, 1), ("17850", "EIRE", True, 1),
        ("85123A", "FIRST"), ("POST", "HEART"), (None, "Unknown"),
        ("536365", "EIRE", 1),
    ]  # fmt: skip
    assert all(outcome == outcomes[0] for outcome in outcomes)


def test_filled_in_dimension_is_left_alone(warehouse: Warehouse) -> None:
    sink = warehouse.sink()
    sink.write([warehouse.records.sales({"description": "INFERRED"})])
    warehouse.run("UPDATE warehouse.dim_products SET description = 'KNOWN', is_inferred = false")
    earlier = {"event_id": "e2", "description": "EARLIER", "invoice_ts": AT - dt.timedelta(days=9)}
    sink.write([warehouse.records.sales(earlier, offset=1)])
    query = "SELECT description FROM warehouse.dim_products WHERE stock_code = '85123A'"
    assert warehouse.rows(query) == [("KNOWN",)]


def test_quarantined_item_keeps_its_bytes_and_coordinates(warehouse: Warehouse) -> None:
    payload = bytes(range(256))
    item = {"payload": payload, "rules": ["A", "B"], "detail": "no\x00good", "event_id": "x" * 9000}
    warehouse.sink().write([warehouse.records.quarantine(item, offset=6, partition=1)])
    assert warehouse.rows(
        """SELECT item_id, state, payload, rules, detail, raw_topic_id, raw_offset, amount,
        quarantine_partition, quarantine_offset, length(event_id) FROM ops.quarantine"""
    ) == [("i1", "OPEN", payload, ["A", "B"], "no\u2400good", "T", 5, Decimal(-5), 1, 6, 9000)]


def test_acceptance_resolves_what_was_refused_before_in_any_order(warehouse: Warehouse) -> None:
    arrivals: list[dict[str, Any]] = [
        {"item_id": "i1"},
        {"item_id": "i2", "reason": "BAD_CURRENCY"},
        {"item_id": "i3", "reason": "ID_CONFLICT"},
        {"item_id": "i2", "state": "RESOLVED", "reason": "ACCEPTED", "detail": "accepted at 0:9"},
        {"item_id": "i4", "event_id": "other"},
    ]
    outcomes = []
    sink, offsets = warehouse.sink(), itertools.count()
    for order in itertools.permutations(arrivals):
        items = [row["item_id"] for row in order]
        if next(row for row in order if row["item_id"] == "i2").get("state") == "RESOLVED":
            continue  # one item is one key, so its records stay in order
        warehouse.run("TRUNCATE ops.quarantine")
        for row in order:
            sink.write([warehouse.records.quarantine(row, offset=next(offsets))])
        found = warehouse.rows(
            "SELECT item_id, state, reason, resolution FROM ops.quarantine ORDER BY item_id"
        )
        outcomes.append((items, found))
    expected = [
        ("i1", "RESOLVED", "NEGATIVE_QUANTITY", "accepted at 0:9"),
        ("i2", "RESOLVED", "BAD_CURRENCY", "accepted at 0:9"),
        ("i3", "OPEN", "ID_CONFLICT", None),
        ("i4", "OPEN", "NEGATIVE_QUANTITY", None),
    ]
    assert [(items, found) for items, found in outcomes if found != expected] == []


def test_item_refused_and_resolved_in_one_batch_is_resolved(warehouse: Warehouse) -> None:
    resolved = {"state": "RESOLVED", "reason": "ACCEPTED", "detail": "accepted"}
    warehouse.sink().write([warehouse.records.quarantine({}, resolved)])
    query = "SELECT state, reason, resolution FROM ops.quarantine"
    assert warehouse.rows(query) == [("RESOLVED", "NEGATIVE_QUANTITY", "accepted")]


# Once, whatever breaks -----------------------------------------------------------------------------

_DIE = """
import os, sys
from tests.integration.warehouse_bench import Warehouse
async def die(_): os._exit(9)
warehouse = Warehouse(sys.argv[1])
warehouse.sink(before_commit=die).write([warehouse.records.sales({}), warehouse.records.quarantine({})])
"""


def test_crash_before_commit_leaves_nothing(warehouse: Warehouse) -> None:
    before = warehouse.everything()
    done = subprocess.run([sys.executable, "-c", _DIE, warehouse.dsn], check=False, timeout=60)
    assert done.returncode == 9
    assert warehouse.everything() == before
    assert warehouse.positions() == {}
    warehouse.sink().write([warehouse.records.sales({}), warehouse.records.quarantine({})])
    assert warehouse.rows("SELECT event_id FROM warehouse.fact_sales") == [("e1",)]
    assert warehouse.positions() == {SALES_0: 1, ITEMS_0: 1}


def test_zombie_with_stale_offsets_is_refused(warehouse: Warehouse) -> None:
    zombie, owner = warehouse.sink(), warehouse.sink()
    owner.write([warehouse.records.sales({"event_id": "owner"})])
    before = warehouse.everything()
    with pytest.raises(AnotherWriter, match=r"sales\.enriched\.v1\[0\]@0"):
        zombie.write([warehouse.records.sales({"event_id": "zombie"}, {"event_id": "zombie-2"})])
    assert warehouse.everything() == before
    assert warehouse.positions() == {SALES_0: 1}


def test_zombie_that_writes_at_the_same_time_waits_and_is_refused(warehouse: Warehouse) -> None:
    inside, go_on = threading.Event(), threading.Event()

    async def hold(_: str) -> None:
        inside.set()
        await asyncio.to_thread(go_on.wait, 30)

    owner, zombie = warehouse.sink(before_commit=hold), warehouse.sink()
    first = threading.Thread(target=owner.write, args=([warehouse.records.sales({"event_id": "owner"})],))
    first.start()
    assert inside.wait(30)
    threading.Timer(0.3, go_on.set).start()
    with pytest.raises(AnotherWriter):
        zombie.write([warehouse.records.sales({"event_id": "zombie"})])
    first.join(30)
    assert warehouse.rows("SELECT event_id FROM warehouse.fact_sales") == [("owner",)]


@pytest.mark.parametrize("where", ["between two statements", "in the middle of a COPY"])
def test_zombie_that_stands_still_in_its_transaction_does_not_hold_its_successor(
    warehouse: Warehouse, where: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store, "STANDSTILL_S", 1.0)
    owner = warehouse.sink()
    owner.write([warehouse.records.sales({"event_id": "e0"})])
    holds, release = threading.Event(), threading.Event()

    async def stand_still() -> None:
        zombie = await asyncpg.connect(warehouse.dsn, server_settings={"application_name": "test"})
        await zombie.execute("BEGIN")
        await zombie.execute("CREATE TEMP TABLE staged (n int) ON COMMIT DROP")
        await zombie.execute("UPDATE ops.stream_offsets SET updated_at = now()")

        async def rows() -> AsyncIterator[bytes]:
            yield b"1\n"
            holds.set()
            await asyncio.to_thread(release.wait, 60)

        with contextlib.suppress(asyncpg.PostgresError, asyncpg.InterfaceError, OSError):
            if where == "in the middle of a COPY":
                await zombie.copy_to_table("staged", source=rows(), format="csv")
            else:
                holds.set()
                await asyncio.to_thread(release.wait, 60)
        zombie.terminate()

    thread = threading.Thread(target=asyncio.run, args=(stand_still(),))
    thread.start()
    try:
        assert holds.wait(30)
        batch = warehouse.records.sales({"event_id": "e1"}, offset=1)
        with pytest.raises(Paused, match="lock timeout"):
            owner.write([batch])
        owner.write([batch])
    finally:
        release.set()
        thread.join(30)
    assert warehouse.rows("SELECT event_id FROM warehouse.fact_sales ORDER BY 1") == [("e0",), ("e1",)]


def test_topic_made_anew_is_refused(warehouse: Warehouse) -> None:
    warehouse.sink().write([warehouse.records.sales({})])
    with pytest.raises(OtherTopic, match=r"topic-a.*topic-b"):
        warehouse.sink(topic_id="topic-b")
    assert warehouse.positions() == {SALES_0: 1}


def test_lost_connection_pauses_and_nothing_is_lost(warehouse: Warehouse) -> None:
    sink = warehouse.sink()
    sink.write([warehouse.records.sales({"event_id": "e0"})])
    warehouse.run(CUT_CONNECTIONS)
    batch = warehouse.records.sales({"event_id": "e1"}, offset=1)
    with pytest.raises(Paused, match="Postgres"):
        sink.write([batch])
    sink.write([batch])
    assert warehouse.rows("SELECT event_id FROM warehouse.fact_sales ORDER BY 1") == [("e0",), ("e1",)]


def test_connection_lost_inside_the_transaction_leaves_nothing(warehouse: Warehouse) -> None:
    failures = iter([True])

    async def terminate(_: str) -> None:
        if next(failures, False):
            await asyncio.to_thread(
                warehouse.run,
                CUT_CONNECTIONS,
            )

    sink = warehouse.sink(before_commit=terminate)
    with pytest.raises(Paused):
        sink.write([warehouse.records.sales({})])
    assert warehouse.rows("SELECT event_id FROM warehouse.fact_sales") == []
    sink.write([warehouse.records.sales({})])
    assert warehouse.rows("SELECT event_id FROM warehouse.fact_sales") == [("e1",)]


def test_writers_of_two_partitions_make_the_same_months_at_once(warehouse: Warehouse) -> None:
    months = [dt.datetime(2015 + i // 12, i % 12 + 1, 1) for i in range(36)]
    failed: list[BaseException] = []

    def write(partition: int) -> None:
        tp = TopicPartition(ENRICHED, partition)
        sink = warehouse.sink(partitions=[tp])
        try:
            start.wait()
            for offset, month in enumerate(months):
                row = {"event_id": f"p{partition}-{offset}", "invoice_ts": month}
                sink.write([warehouse.records.sales(row, offset=offset, partition=partition)])
        except BaseException as error:
            failed.append(error)

    start = threading.Barrier(2)
    threads = [threading.Thread(target=write, args=(partition,)) for partition in (0, 1)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
    assert failed == []
    wanted = sorted(f"p{p}-{i}" for p in (0, 1) for i in range(36))
    assert [
        e for (e,) in warehouse.rows('SELECT event_id COLLATE "C" FROM warehouse.fact_sales ORDER BY 1')
    ] == wanted
    assert warehouse.positions() == {SALES_0: 36, SALES_1: 36}


def test_server_that_is_away_pauses(warehouse: Warehouse) -> None:
    away = Warehouse("postgresql://nobody@127.0.0.1:1/nothing")
    with pytest.raises(Paused, match="Postgres"):
        away.sink()
    away.close()


def test_database_without_tables_says_what_to_run(stack: Any) -> None:
    name = f"empty_{uuid.uuid4().hex[:12]}"
    asyncio.run(_execute(stack.postgres, f"CREATE DATABASE {name}"))
    empty = Warehouse(with_database(stack.postgres, name))
    with pytest.raises(NotMigrated, match=r"deploy\.postgres migrate"):
        empty.sink()
    empty.close()
    asyncio.run(_execute(stack.postgres, f"DROP DATABASE {name} WITH (FORCE)"))
