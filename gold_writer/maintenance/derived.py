"""Tables of the lake that follow from others: dim_invoice, dim_date and the pre-aggregated agg_*.

Each is made anew as a whole and replaces its last version in one commit, which also keeps the version of the
fact table that it was made from: where that has none later, nothing is done. Amounts are in GBP at the dated
rate, as in the API: revenue is net of returns, gross revenue and orders leave cancellations out.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import date
from pathlib import Path
from typing import Final

import polars as pl
from deltalake import DeltaTable, write_deltalake

from gold_writer.lake.tables import FACT
from gold_writer.maintenance.calendar import calendar
from gold_writer.maintenance.owned import DIM_PRODUCTS, marked

SOURCE: Final = "tillstream.source.version"
_MONEY: Final = pl.Decimal(26, 6)
_AHEAD_YEARS: Final = 2

_MEASURES: Final = (
    pl.col("amount_gbp").sum().cast(_MONEY).alias("revenue"),
    pl.col("amount_gbp").filter(~pl.col("is_return")).sum().cast(_MONEY).alias("gross_revenue"),
    pl.col("amount_gbp").filter("is_return").sum().cast(_MONEY).alias("returns"),
    pl.col("invoice_key").filter(~pl.col("is_return")).n_unique().cast(pl.Int64).alias("orders"),
    pl.len().cast(pl.Int64).alias("lines"),
    pl.col("quantity").cast(pl.Int64).sum().alias("units"),
    pl.col("customer_id").drop_nulls().n_unique().cast(pl.Int64).alias("customers"),
    pl.col("amount_gbp").null_count().cast(pl.Int64).alias("lines_without_rate"),
)


def by_day(facts: pl.LazyFrame, _: pl.LazyFrame) -> pl.LazyFrame:
    return facts.group_by("date_key").agg(*_MEASURES).sort("date_key")


def by_country(facts: pl.LazyFrame, _: pl.LazyFrame) -> pl.LazyFrame:
    key = ["country", "country_code", "region"]
    return facts.group_by(key).agg(*_MEASURES).sort(key)


def by_product(facts: pl.LazyFrame, _: pl.LazyFrame) -> pl.LazyFrame:
    """The description is the one of the latest sale that has any."""
    latest = pl.col("description").sort_by("invoice_ts", "event_id").drop_nulls().last()
    return facts.group_by("stock_code", "is_product").agg(latest, *_MEASURES).sort("stock_code")


def by_category(facts: pl.LazyFrame, products: pl.LazyFrame) -> pl.LazyFrame:
    """By the category that the product had when it was sold; null while none is known."""
    categories = products.select("product_key", "category")
    sold = facts.join(categories, on="product_key", how="left")
    return sold.group_by("category").agg(*_MEASURES).sort("category")


def by_customer(facts: pl.LazyFrame, _: pl.LazyFrame) -> pl.LazyFrame:
    """Guests are one row, with a null id."""
    times = (pl.col("invoice_ts").min().alias("first_sale"), pl.col("invoice_ts").max().alias("last_sale"))
    return facts.group_by("customer_id").agg(*_MEASURES, *times).sort("customer_id")


def invoices(facts: pl.LazyFrame, _: pl.LazyFrame) -> pl.LazyFrame:
    """The header of each invoice, from its lowest line, as in the warehouse; and its totals."""
    header = ["invoice_ts", "date_key", "customer_key", "customer_id", "country", "country_code", "region"]
    return (
        facts.sort("line_no", "invoice_ts", "event_id")
        .group_by("invoice_key", maintain_order=True)
        .agg(
            pl.col("source_system", "invoice_no", *header, "is_return").first(),
            pl.col("line_no").first().alias("header_line_no"),
            pl.len().cast(pl.Int64).alias("lines"),
            pl.col("amount_gbp").sum().cast(_MONEY).alias("amount_gbp"),
        )
    )


Make = Callable[[pl.LazyFrame, pl.LazyFrame], pl.LazyFrame]
DERIVED: Final[dict[str, Make]] = {
    "gold/dim_invoice": invoices,
    "gold/agg_sales_by_day": by_day,
    "gold/agg_sales_by_country": by_country,
    "gold/agg_sales_by_product": by_product,
    "gold/agg_sales_by_category": by_category,
    "gold/agg_sales_by_customer": by_customer,
}
DIM_DATE: Final = "gold/dim_date"


def refresh(lake: Path) -> dict[str, int]:
    """Make what is older than its sources; name -> rows written."""
    fact_path = FACT.path(lake)
    if not DeltaTable.is_deltatable(str(fact_path)):
        return {}
    version = DeltaTable(str(fact_path)).version()
    facts = pl.scan_delta(str(fact_path), version=version)
    products, products_version = _products(lake)
    written = {}
    for name, make in DERIVED.items():
        source = version + (products_version << 32 if name.endswith("category") else 0)
        path = lake / name
        if _source(path) == source:
            continue
        rows = make(facts, products).collect(engine="streaming")
        _replace(path, rows, source)
        written[name] = rows.height
    return written


def refresh_dates(lake: Path, today: date, *, fiscal_start: int, countries: list[str]) -> int:
    """The calendar from the first year of the facts to two years ahead; rows written, 0 where it is there."""
    fact_path, path = FACT.path(lake), lake / DIM_DATE
    first_year = today.year
    if DeltaTable.is_deltatable(str(fact_path)):
        earliest = pl.scan_delta(str(fact_path)).select(pl.col("date_key").min()).collect().item()
        first_year = min(first_year, (earliest or today.year * 10_000) // 10_000)
    rows = calendar(
        date(first_year, 1, 1),
        date(today.year + _AHEAD_YEARS, 12, 31),
        fiscal_start=fiscal_start,
        countries=countries,
    )
    if DeltaTable.is_deltatable(str(path)) and pl.read_delta(str(path)).sort("date_key").equals(rows):
        return 0
    _replace(path, rows, 0)
    return rows.height


def _products(lake: Path) -> tuple[pl.LazyFrame, int]:
    path = DIM_PRODUCTS.path(lake)
    if not DeltaTable.is_deltatable(str(path)):
        return pl.LazyFrame(schema={"product_key": pl.Int64, "category": pl.String}), 0
    version = DeltaTable(str(path)).version()
    return pl.scan_delta(str(path), version=version), version


def _source(path: Path) -> int | None:
    """What a table was made from; None where it is not there."""
    if not DeltaTable.is_deltatable(str(path)):
        return None
    version: int | None = DeltaTable(str(path)).transaction_version(SOURCE)
    return version


def _replace(path: Path, rows: pl.DataFrame, source: int) -> None:
    write_deltalake(
        str(path),
        rows,
        mode="overwrite",
        schema_mode="overwrite",
        configuration={"delta.logRetentionDuration": "interval 7 days", "delta.checkpointInterval": "100"},
        commit_properties=marked({SOURCE: source}),
    )
