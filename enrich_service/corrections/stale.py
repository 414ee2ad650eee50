"""Which sales point at another version than the one that was true, and their next revisions. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import polars as pl

from enrich_service.asof import AsOf
from schemas.aggregates import REPLACES
from schemas.dimensions import Dimension
from schemas.heartbeat import is_heartbeat
from schemas.identity import customer_key_expr, product_key_expr
from streamkit.headers import INGEST_TS
from streamkit.ports import Headers

STALE = "__stale"


def judged(sales: pl.DataFrame, versions: Mapping[Dimension, AsOf]) -> pl.DataFrame:
    """The sales (EnrichedSale) with the keys that they should have, and whether theirs differ (`STALE`)."""
    right = sales.with_columns(customer_key=customer_key_expr(), product_key=product_key_expr())
    for each in versions.values():
        right = each.add_to(right)
    stale = (right["customer_key"] != sales["customer_key"]) | (right["product_key"] != sales["product_key"])
    return right.with_columns(stale.alias(STALE)).filter(~is_heartbeat())


def candidates(judged_sales: pl.DataFrame) -> pl.DataFrame:
    """What must be kept of a batch: the stale, and every later revision, which may have made an earlier one
    right."""
    return judged_sales.filter(pl.col(STALE) | (pl.col("revision") > 0))


def latest_stale(kept: pl.DataFrame) -> pl.DataFrame:
    """The events whose highest revision is stale. Of two records of one revision the first counts, as it does
    in the stores."""
    order = ["event_id", "revision", "__at"]
    return (
        kept.with_row_index("__at")
        .sort(order, descending=[False, True, False])
        .unique("event_id", keep="first", maintain_order=True)
        .filter(STALE)
        .sort("__at")
        .drop("__at", STALE)
    )


def revised(stale: pl.DataFrame, now_ms: int) -> pl.DataFrame:
    """Their next revisions."""
    return stale.with_columns(
        revision=pl.col("revision") + 1, recorded_at=pl.lit(now_ms, pl.Int64).cast(pl.Datetime("ms"))
    )


def headers(stale: pl.DataFrame, before: Sequence[Headers]) -> list[Headers]:
    """The headers of each record with what its revision replaces. It was not accepted just now: without the
    time of acceptance it does not count in the latencies of what reads it."""
    return [
        [(name, value) for name, value in own if name not in (INGEST_TS, REPLACES)]
        + [(REPLACES, f"{revision}:{'' if amount is None else amount}".encode())]
        for own, revision, amount in zip(before, stale["revision"], stale["amount_gbp_micros"], strict=True)
    ]
