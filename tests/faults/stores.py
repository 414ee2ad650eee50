"""Reads from the stores what they hold of some sources."""

from __future__ import annotations

import asyncio
from typing import Any

import asyncpg
import polars as pl

from deploy.local.testing import Platform
from tests.faults.laws import Held, Item
from tests.faults.load import Sent

_FACTS = "select event_id from warehouse.fact_sales where source_system = any($1)"
_ITEMS = """
    select item_id, state, event_id, payload from ops.quarantine
    where source_system = any($1) or payload = any($2)
"""


def held(platform: Platform, sent: Sent) -> Held:
    """Everything that the stores hold of `sent`, repeats included."""
    sources, broken = list(sent.sources), list(sent.broken)
    facts, items = asyncio.run(_warehouse(platform.urls["postgres"], sources, broken))
    of_sources = pl.col("source_system").is_in(sources)
    quarantine = (
        _scan(platform, "bronze/quarantine")
        .filter(of_sources | pl.col("payload").is_in(pl.Series(broken, dtype=pl.Binary).implode()))
        .select("item_id", "state", "event_id", "payload", "partition", "offset")
        .collect()
    )
    places = quarantine.select(pl.format("{}:{}", "partition", "offset")).to_series()
    distinct = quarantine.select("item_id", "state", "event_id", "payload").unique()
    return Held(
        warehouse=[row["event_id"] for row in facts],
        lake=_ids(platform, "gold/fact_sales", of_sources),
        silver=_ids(platform, "silver/sales", of_sources),
        quarantine=[Item(r["item_id"], r["state"], r["event_id"], bytes(r["payload"])) for r in items],
        lake_quarantine=[Item(*row) for row in distinct.iter_rows()],
        lake_places=places.to_list(),
    )


def _scan(platform: Platform, table: str) -> pl.LazyFrame:
    return pl.scan_delta(str(platform.lake / table))


def _ids(platform: Platform, table: str, which: pl.Expr) -> list[str]:
    return _scan(platform, table).filter(which).select("event_id").collect()["event_id"].to_list()


async def _warehouse(dsn: str, sources: list[str], broken: list[bytes]) -> tuple[list[Any], list[Any]]:
    db = await asyncpg.connect(dsn)
    try:
        return await db.fetch(_FACTS, sources), await db.fetch(_ITEMS, sources, broken)
    finally:
        await db.close()
