"""Calendar, invoices and aggregates against plain recounts."""

from __future__ import annotations

import json
from collections import defaultdict
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow as pa
import pytest
from deltalake import DeltaTable, write_deltalake
from hypothesis import given
from hypothesis import strategies as st

from gold_writer.lake.tables import FACT
from gold_writer.lake.tables import create as create_fact
from gold_writer.maintenance import derived
from gold_writer.maintenance.calendar import calendar
from gold_writer.maintenance.owned import DIM_PRODUCTS, create


def sales(count: int, start: int = 0) -> list[dict[str, Any]]:
    return [
        {
            "event_id": f"e{n:04}",
            "source_system": "shop",
            "invoice_no": f"{'C' if n % 5 == 0 else ''}{n // 3}",
            "invoice_key": n // 3 if n % 5 else -(n // 3) - 1,
            "line_no": 3 - n % 3,
            "stock_code": f"{n % 4}",
            "description": None if n % 2 else f"thing {n}",
            "customer_id": None if n % 7 == 0 else f"{n % 3}",
            "customer_key": n % 3,
            "product_key": n % 4,
            "date_key": 20260101 + n % 6,
            "quantity": -1 if n % 5 == 0 else n % 9 + 1,
            "amount_gbp": None if n % 11 == 0 else Decimal(n * 37 - 300) / 1_000_000,
            "country": "EIRE" if n % 2 else None,
            "is_return": n % 5 == 0,
            "is_product": True,
            "revision": 0,
            "invoice_ts": datetime(2026, 1, 1, n % 24, tzinfo=UTC),
        }
        for n in range(start, start + count)
    ]


def append(lake: Path, rows: list[dict[str, Any]]) -> None:
    create_fact(FACT, lake, "topic")
    write_deltalake(str(FACT.path(lake)), pa.Table.from_pylist(rows, schema=FACT.schema), mode="append")


def recount(rows: list[dict[str, Any]], *key: str) -> dict[tuple[Any, ...], tuple[Any, ...]]:
    groups: dict[tuple[Any, ...], list[dict[str, Any]]] = defaultdict(list)
    for row in rows:
        groups[tuple(row.get(name) for name in key)].append(row)
    return {found: measures(group) for found, group in groups.items()}


def total(rows: list[dict[str, Any]]) -> Decimal:
    return sum((row["amount_gbp"] or Decimal(0) for row in rows), Decimal(0))


def measures(group: list[dict[str, Any]]) -> tuple[Any, ...]:
    kept = [row for row in group if not row["is_return"]]
    return (
        total(group),
        total(kept),
        total([row for row in group if row["is_return"]]),
        len({row["invoice_key"] for row in kept}),
        len(group),
        sum(row["quantity"] for row in group),
        len({row["customer_id"] for row in group} - {None}),
        sum(row["amount_gbp"] is None for row in group),
    )


MEASURES = (
    "revenue",
    "gross_revenue",
    "returns",
    "orders",
    "lines",
    "units",
    "customers",
    "lines_without_rate",
)


def held(lake: Path, table: str, *key: str) -> dict[tuple[Any, ...], tuple[Any, ...]]:
    rows = pl.read_delta(str(lake / "gold" / table))
    return {
        tuple(row[name] for name in key): tuple(row[name] for name in MEASURES)
        for row in rows.iter_rows(named=True)
    }


def test_aggregates_equal_a_plain_recount_and_follow_the_facts(tmp_path: Path) -> None:
    rows = sales(200)
    append(tmp_path, rows)
    assert len(derived.refresh(tmp_path)) == 6
    check(tmp_path, rows)
    assert derived.refresh(tmp_path) == {}, "nothing new"
    more = sales(50, 200)
    append(tmp_path, more)
    assert len(derived.refresh(tmp_path)) == 6
    check(tmp_path, rows + more)
    wrong = dict(held(tmp_path, "agg_sales_by_day", "date_key"))
    assert wrong != recount(rows, "date_key"), "the recount can tell"


def check(lake: Path, rows: list[dict[str, Any]]) -> None:
    assert held(lake, "agg_sales_by_day", "date_key") == recount(rows, "date_key")
    country = ("country", "country_code", "region")
    assert held(lake, "agg_sales_by_country", *country) == recount(rows, *country)
    assert held(lake, "agg_sales_by_product", "stock_code") == recount(rows, "stock_code")
    assert held(lake, "agg_sales_by_customer", "customer_id") == recount(rows, "customer_id")


def test_categories_are_those_of_the_version_that_was_sold(tmp_path: Path) -> None:
    rows = sales(40)
    append(tmp_path, rows)
    derived.refresh(tmp_path)
    assert held(tmp_path, "agg_sales_by_category", "category") == recount(rows, "category")
    table = create(DIM_PRODUCTS, tmp_path)
    versions = [{"product_key": n, "category": "cups" if n < 2 else "lamps"} for n in range(3)]
    write_deltalake(table, pa.Table.from_pylist(versions, schema=DIM_PRODUCTS.schema), mode="append")
    assert list(derived.refresh(tmp_path)) == ["gold/agg_sales_by_category"]
    categories = ["cups", "cups", "lamps", None]
    labelled = [{**row, "category": categories[row["product_key"]]} for row in rows]
    assert held(tmp_path, "agg_sales_by_category", "category") == recount(labelled, "category")


def test_an_invoice_has_the_header_of_its_lowest_line(tmp_path: Path) -> None:
    rows = sales(60)
    append(tmp_path, rows)
    derived.refresh(tmp_path)
    found = pl.read_delta(str(tmp_path / "gold/dim_invoice"))
    assert sorted(found["invoice_key"].to_list()) == sorted({row["invoice_key"] for row in rows})
    for invoice in found.iter_rows(named=True):
        lines = [row for row in rows if row["invoice_key"] == invoice["invoice_key"]]
        first = min(lines, key=lambda row: (row["line_no"], row["invoice_ts"], row["event_id"]))
        assert {name: invoice[name] for name in ("customer_id", "date_key", "country", "is_return")} == {
            name: first[name] for name in ("customer_id", "date_key", "country", "is_return")
        }
        assert invoice["lines"] == len(lines)


def test_the_calendar_reaches_from_the_first_fact_to_two_years_ahead_and_is_made_once(tmp_path: Path) -> None:
    append(tmp_path, [{**sales(1)[0], "date_key": 20101201}])

    def refresh() -> int:
        return derived.refresh_dates(tmp_path, date(2026, 5, 1), fiscal_start=4, countries=["GB"])

    assert refresh() > 6000
    assert refresh() == 0
    days = pl.read_delta(str(tmp_path / derived.DIM_DATE))
    assert (days["full_date"].min(), days["full_date"].max()) == (date(2010, 1, 1), date(2028, 12, 31))
    assert DeltaTable(str(tmp_path / derived.DIM_DATE)).version() == 0


@given(day=st.dates(date(1990, 1, 1), date(2035, 12, 31)), start=st.integers(1, 12))
def test_a_fiscal_year_has_twelve_months_and_is_named_after_its_end(day: date, start: int) -> None:
    row = calendar(day, day, fiscal_start=start, countries=["GB"]).row(0, named=True)
    begins = date(day.year if day.month >= start else day.year - 1, start, 1)
    ends = date(begins.year + 1, start, 1) - timedelta(days=1)
    assert row["fiscal_year"] == ends.year
    assert row["fiscal_month"] == (day.year - begins.year) * 12 + day.month - begins.month + 1
    assert row["fiscal_quarter"] == (row["fiscal_month"] + 2) // 3
    assert row["date_key"] == day.year * 10_000 + day.month * 100 + day.day
    assert (row["iso_year"], row["iso_week"], row["iso_weekday"]) == tuple(day.isocalendar())
    assert row["is_weekend"] == (day.weekday() >= 5)
    assert (row["month_name"], row["day_name"]) == (f"{day:%B}", f"{day:%A}")


def test_holidays_are_named_by_country_and_flagged_for_the_first() -> None:
    days = calendar(date(2010, 12, 24), date(2010, 12, 26), fiscal_start=4, countries=["GB", "DE"])
    eve, christmas, boxing = days.iter_rows(named=True)
    assert (eve["is_holiday"], eve["holidays"]) == (False, "{}")
    assert set(json.loads(christmas["holidays"])) == {"GB", "DE"}
    assert christmas["is_holiday"]
    assert "DE" in json.loads(boxing["holidays"])
    with pytest.raises(NotImplementedError):
        calendar(date(2010, 1, 1), date(2010, 1, 2), fiscal_start=4, countries=["XX"])
