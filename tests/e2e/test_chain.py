"""Three days of real sales through the whole chain, against a plain recount: ids, and amounts to the last
decimal. The tests of this file build on one another's data and run in this order."""

from __future__ import annotations

import json
import os
import signal
import threading
import time
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path

import polars as pl
import pytest

from tests.e2e.conftest import FACT_COLUMNS, SAMPLE, Probe
from tests.e2e.recount import Line, figures, read

GOLD = {line.event_id: line for line in read(SAMPLE) if not line.is_refused}
REFUSED = {line.event_id for line in read(SAMPLE) if line.is_refused}


@pytest.fixture(scope="module")
def loaded(probe: Probe) -> dict[str, object]:
    return probe.load(*SAMPLE)


def test_a_load_reports_every_line_once(loaded: dict[str, object]) -> None:
    assert (loaded["files"], loaded["accepted"], loaded["duplicates"]) == (3, 7419, 0)
    assert (loaded["gold"], loaded["quarantined"]) == (len(GOLD), len(REFUSED))
    total = sum((line.amount for line in read(SAMPLE)), Decimal())
    assert Decimal(str(loaded["amount_gold"])) + Decimal(str(loaded["amount_quarantined"])) == total


def test_the_ledger_balances_with_nothing_in_flight(probe: Probe, loaded: dict[str, object]) -> None:
    ledger = probe.ledger()
    assert ledger["balanced"]
    assert (ledger["in_flight"], ledger["missing"]) == (0, [])
    assert ledger["gold"]["lake"] == ledger["gold"]["warehouse"] == len(GOLD)


def test_the_warehouse_holds_each_line_as_recounted(probe: Probe, loaded: dict[str, object]) -> None:
    rows = {row["event_id"]: row for row in probe.warehouse()}
    assert rows.keys() == GOLD.keys()
    for event_id, line in GOLD.items():
        _agrees(rows[event_id], line)


def test_the_lake_holds_the_same_rows_as_the_warehouse(probe: Probe, loaded: dict[str, object]) -> None:
    lake = probe.lake().select(FACT_COLUMNS).sort("event_id")
    warehouse = probe.warehouse()
    assert lake["event_id"].to_list() == [row["event_id"] for row in warehouse]
    for column in FACT_COLUMNS:
        ours, theirs = _plain(lake[column]), [_utc(row[column]) for row in warehouse]
        assert ours == theirs, column


def test_bronze_and_silver_hold_every_event(probe: Probe, loaded: dict[str, object]) -> None:
    def keys(table: str, column: str) -> set[str]:
        return set(probe.lake(table)[column].cast(pl.String))

    # A load waits for gold; bronze and silver have a slower trigger.
    probe.wait_for(lambda: keys("bronze/sales", "key") == GOLD.keys() | REFUSED, 30, "every event in bronze")
    probe.wait_for(lambda: keys("silver/sales", "event_id") == GOLD.keys(), 30, "every event in silver")
    items = _item_ids(probe)
    probe.wait_for(lambda: keys("bronze/quarantine", "item_id") >= items, 30, "the items in bronze")
    bronze = probe.lake("bronze/sales")
    assert bronze.select("partition", "offset").is_duplicated().sum() == 0


def test_quarantined_lines_keep_their_reason_and_bytes(probe: Probe, loaded: dict[str, object]) -> None:
    items = probe.sql("select event_id, reason, payload from ops.quarantine where state = 'OPEN'")
    assert {item["event_id"] for item in items} == REFUSED
    assert {item["reason"] for item in items} == {"NEGATIVE_QUANTITY"}
    bronze = {row["key"].decode(): row["value"] for row in probe.lake("bronze/sales").iter_rows(named=True)}
    assert all(bytes(item["payload"]) == bronze[item["event_id"]] for item in items)


def test_graphql_equals_the_recount(probe: Probe, loaded: dict[str, object]) -> None:
    data = probe.graphql(
        """{ kpis { revenue grossRevenue returns orders lines units customers averageOrderValue }
             revenueByCountry(first: 1000) { country revenue }
             salesSeries(grain: DAY) { at revenue }
             topProducts(first: 1000, includeNonProducts: true) { stockCode revenue } }"""
    )
    expected = figures(read(SAMPLE))
    kpis = data["kpis"]
    assert Decimal(kpis["revenue"]) == expected.revenue
    assert Decimal(kpis["grossRevenue"]) == expected.gross_revenue
    assert Decimal(kpis["returns"]) == expected.returns
    assert (kpis["orders"], kpis["lines"], kpis["units"], kpis["customers"]) == (
        expected.orders,
        expected.lines,
        expected.units,
        expected.customers,
    )
    by_country = {row["country"]: Decimal(row["revenue"]) for row in data["revenueByCountry"]}
    assert by_country == expected.by_country
    by_day = {row["at"][:10]: Decimal(row["revenue"]) for row in data["salesSeries"]}
    assert by_day == expected.by_day
    best = [Decimal(row["revenue"]) for row in data["topProducts"]]
    assert best == sorted(expected.by_product.values(), reverse=True)[: len(best)]


def test_a_second_load_adds_nothing_to_any_store(probe: Probe, loaded: dict[str, object]) -> None:
    warehouse, lake = probe.warehouse(), probe.lake().sort("event_id")
    report = probe.load(*SAMPLE)
    assert (report["accepted"], report["duplicates"], report["gold"]) == (7419, 7419, 0)
    assert report["quarantined"] == 0
    assert probe.warehouse() == warehouse
    assert probe.lake().sort("event_id").equals(lake)


def test_the_same_lines_over_http_are_duplicates(probe: Probe, loaded: dict[str, object]) -> None:
    before = probe.ledger()
    body = b"".join(_as_json(line) for line in read(SAMPLE[:1]))
    answer = probe.post(body, "application/x-ndjson").json()
    assert {item["outcome"] for item in answer["items"]} == {"accepted"}
    assert [item["event_id"] for item in answer["items"]] == [line.event_id for line in read(SAMPLE[:1])]
    _drained(probe)
    after = probe.ledger()
    assert after["duplicates"] - before["duplicates"] == len(answer["items"])
    assert after["gold"] == before["gold"]


def test_an_event_is_in_graphql_and_in_the_lake_within_seconds(
    probe: Probe, loaded: dict[str, object]
) -> None:
    posted = time.monotonic()
    sale = {
        "source_system": "till-7",
        "invoice_no": "900001",
        "line_no": 1,
        "stock_code": "85123A",
        "quantity": 2,
        "unit_price": 2.55,
        "currency": "EUR",
        "country": "EIRE",
        "invoice_ts": "2011-03-04T10:00:00Z",
    }
    event_id = probe.post(json.dumps(sale).encode()).json()["items"][0]["event_id"]
    life = "query($id: ID!) { event(id: $id) { status hops { stage } sale { amount countryCode } } }"

    def in_graphql() -> bool:
        event = probe.graphql(life, {"id": event_id})["event"]
        return event is not None and event["sale"] is not None

    probe.wait_for(in_graphql, 30, "the event in GraphQL")
    print(f"in GraphQL after {time.monotonic() - posted:.2f} s")
    probe.wait_for(lambda: event_id in set(probe.lake()["event_id"]), 60, "the event in the lake")
    print(f"in the lake after {time.monotonic() - posted:.2f} s")
    event = probe.graphql(life, {"id": event_id})["event"]
    assert event["status"] == "GOLD"
    assert (Decimal(event["sale"]["amount"]), event["sale"]["countryCode"]) == (Decimal("5.10"), "IE")
    stages = [hop["stage"] for hop in event["hops"]]
    assert {"raw", "validated", "enriched", "warehouse"} <= set(stages)
    _drained(probe)


@pytest.mark.parametrize("service", ["ingest", "quality", "enrich", "warehouse", "lake"])
def test_a_service_killed_in_mid_load_loses_and_doubles_nothing(
    probe: Probe, loaded: dict[str, object], service: str, tmp_path: Path
) -> None:
    before = {row["event_id"] for row in probe.warehouse()}
    source = f"till-{service}"
    killer = threading.Thread(target=_kill_soon, args=(probe, service))
    killer.start()
    report = probe.load(SAMPLE[0], source=source)
    killer.join()
    expected = {line.event_id for line in read(SAMPLE[:1], source) if not line.is_refused}
    assert report["gold"] == len(expected)
    ledger = probe.ledger()
    assert ledger["balanced"]
    assert (ledger["in_flight"], ledger["missing"]) == (0, [])
    assert {row["event_id"] for row in probe.warehouse()} - before == expected
    lake = probe.lake()["event_id"]
    assert lake.n_unique() == len(lake)
    assert set(lake) == before | expected


def _kill_soon(probe: Probe, service: str) -> None:
    """Kill it as soon as ingest has acknowledged anything new."""
    pid = probe.platform.service(service)["pid"]
    before = probe.stats("ingest")["records_out"]
    probe.wait_for(lambda: probe.stats("ingest")["records_out"] > before, 60, "ingest to accept something")
    os.kill(pid, signal.SIGKILL)


def _item_ids(probe: Probe) -> set[str]:
    return {row["item_id"] for row in probe.sql("select item_id from ops.quarantine")}


def _drained(probe: Probe) -> None:
    probe.wait_for(lambda: probe.ledger()["in_flight"] == 0, 60, "nothing in flight")


def _agrees(row: dict[str, object], line: Line) -> None:
    assert row["invoice_no"] == line.invoice_no
    assert row["line_no"] == line.line_no
    assert row["stock_code"] == line.stock_code
    assert row["quantity"] == line.quantity
    assert row["unit_price"] == line.unit_price
    assert row["total_amount"] == row["amount_gbp"] == line.amount
    assert row["customer_id"] == line.customer_id
    assert row["country"] == line.country
    assert row["invoice_ts"] == line.invoice_ts
    assert row["is_return"] == line.is_return
    assert row["date_key"] == int(line.invoice_ts.strftime("%Y%m%d"))


def _as_json(line: Line) -> bytes:
    sale = {
        "source_system": "online-retail",
        "invoice_no": line.invoice_no,
        "line_no": line.line_no,
        "stock_code": line.stock_code,
        "description": line.description,
        "quantity": line.quantity,
        "unit_price": str(line.unit_price),
        "currency": "GBP",
        "customer_id": line.customer_id,
        "country": line.country,
        "invoice_ts": line.invoice_ts.isoformat(),
    }
    return json.dumps(sale).encode() + b"\n"


def _plain(column: pl.Series) -> list[object]:
    return [_utc(value) for value in column.to_list()]


def _utc(value: object) -> object:
    if isinstance(value, datetime):
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)
    return value
