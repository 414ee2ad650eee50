"""From enriched sales to what they change in each window. Pure.

A window is one of business time (`invoice_ts`, UTC) and never closes: a sale that arrives late changes the
window that it belongs to, and one that is loaded years later changes one of years ago.

What a record contributes:

    revision 0    1 line, its quantity in units, its amount in GBP (nothing while there is no rate)
    revision n    0 lines, 0 units, its amount less that of revision n - 1, which its header tells

    a heartbeat   nothing, and only to the total, which says how far its shard has counted

A revision changes nothing but the amount here: an accepted sale is immutable, and what windows and
dimensions are made of (time, country as received, stock code, return or not) is part of the sale.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import polars as pl
from numpy.typing import NDArray

from schemas.aggregates import CARRY, DAY_PRODUCT, MINUTE_COUNTRY, REPLACES, TOTAL
from schemas.heartbeat import is_heartbeat

_REPLACES: Final = re.compile(rb"([0-9]{1,9}):(-?[0-9]{1,19})?")


class UnknownDifference(Exception):  # noqa: N818 - reads as what happened
    """A revision that does not say what it replaces. To guess would make every sum after it wrong."""


@dataclass(frozen=True, slots=True)
class Grain:
    """`length_ms`: of a window; None for all time. `dimension`: the column that splits it, or None."""

    name: str
    length_ms: int | None
    dimension: str | None


GRAINS: Final = (
    Grain(MINUTE_COUNTRY, 60_000, "country"),
    Grain(DAY_PRODUCT, 86_400_000, "stock_code"),
    # Last: its record closes a batch.
    Grain(TOTAL, None, None),
)


def contributions(
    sales: pl.DataFrame, shard: NDArray[np.int32], replaces: Callable[[], Sequence[bytes | None]]
) -> pl.DataFrame:
    """One row per record: shard, at_ms, country, stock_code, lines, units (Int64), gross, returns (Int128
    micros of GBP), ingest_ms, heartbeat.

    `shard` is the input partition of each row of `sales` (EnrichedSale). `replaces` gives the header of that
    name of each row, and is asked only where there is a revision above 0. Raises `UnknownDifference`.
    """
    heartbeat = is_heartbeat()
    first = (pl.col("revision") == 0) & ~heartbeat
    before = pl.lit(0, pl.Int128)
    if not sales.select((pl.col("revision") == 0).all()).item():
        before = pl.lit(_replaced(sales, replaces()))
    amount = (
        pl.when(heartbeat)
        .then(0)
        .otherwise(pl.col("amount_gbp_micros").fill_null(0).cast(pl.Int128) - before)
    )
    return sales.select(
        pl.Series("shard", shard, dtype=pl.Int32),
        pl.col("invoice_ts").cast(pl.Datetime("ms")).cast(pl.Int64).alias("at_ms"),
        "country",
        "stock_code",
        first.cast(pl.Int64).alias("lines"),
        pl.when(first).then(pl.col("quantity").cast(pl.Int64)).otherwise(0).alias("units"),
        pl.when("is_return").then(0).otherwise(amount).cast(pl.Int128).alias("gross"),
        pl.when("is_return").then(amount).otherwise(0).cast(pl.Int128).alias("returns"),
        pl.col("ingest_ts").cast(pl.Datetime("ms")).cast(pl.Int64).alias("ingest_ms"),
        heartbeat.alias("heartbeat"),
    )


def changes(rows: pl.DataFrame, grains: Sequence[Grain] = GRAINS) -> pl.DataFrame:
    """The sums of `contributions` per window: grain, window_start, dimension, shard, key, lines, units, the
    parts of both amounts (see `totals.from_sums`), ingest_ms, the earliest of the rows, and heartbeat_ms,
    that of their newest heartbeat or null.

    Shard by shard, and within a shard in the order of `grains`.
    """
    # One plan: every step on its own costs a small batch more than its rows do.
    windows = pl.concat([_grouped(rows.lazy(), grain) for grain in grains])
    return windows.sort("shard", maintain_order=True).select(*_COLUMNS).collect()


def _grouped(rows: pl.LazyFrame, grain: Grain) -> pl.LazyFrame:
    window = pl.lit(0, pl.Int64)
    if grain.length_ms is not None:
        window = pl.col("at_ms") // grain.length_ms * grain.length_ms
        rows = rows.filter(~pl.col("heartbeat"))
    dimension = pl.lit("") if grain.dimension is None else pl.col(grain.dimension).fill_null("")
    return (
        rows.group_by(
            window.cast(pl.Datetime("ms")).alias("window_start"),
            dimension.alias("dimension"),
            "shard",
            maintain_order=True,
        )
        .agg(
            pl.col("lines", "units", "gross", "returns").sum(),
            pl.col("ingest_ms").min(),
            pl.col("ingest_ms").filter("heartbeat").max().alias("heartbeat_ms"),
        )
        .with_columns(pl.lit(grain.name).alias("grain"))
    )


# `grain|window start|dimension|shard`, such as `minute_country|2010-12-01T08:26:00Z|EIRE|2`. A dimension may
# contain the separator; the other parts do not, so a key reads from both ends.
_KEY: Final = pl.concat_str(
    "grain",
    pl.col("window_start").dt.strftime("%Y-%m-%dT%H:%M:%SZ"),
    "dimension",
    "shard",
    separator="|",
).cast(pl.Binary)

_COLUMNS: Final[tuple[str | pl.Expr, ...]] = (
    *("grain", "window_start", "dimension", "shard", "lines", "units", "ingest_ms", "heartbeat_ms"),
    _KEY.alias("key"),
    *(
        part.cast(pl.Int64).alias(f"{name}_{what}")
        for name in ("gross", "returns")
        for what, part in (("micros", pl.col(name) % CARRY), ("carry", pl.col(name) // CARRY))
    ),
)


def _replaced(sales: pl.DataFrame, headers: Sequence[bytes | None]) -> pl.Series:
    """The amount that each row replaces, in 128 bits, for the difference of two of 64 may not fit into 64; 0
    for revision 0."""
    found = [
        0 if revision == 0 else _replaced_amount(header, revision, event_id)
        for revision, event_id, header in zip(sales["revision"], sales["event_id"], headers, strict=True)
    ]
    return pl.Series("replaced", found, dtype=pl.Int128)


def _replaced_amount(header: bytes | None, revision: int, event_id: str) -> int:
    match = _REPLACES.fullmatch(header or b"")
    if match is None or int(match[1]) != revision - 1:
        raise UnknownDifference(
            f"event {event_id} has revision {revision} and its header `{REPLACES}` is {header!r}: totals can "
            "only follow a revision that names the one before it and its amount "
            "(docs/adr/0006-aggregates.md)"
        )
    return int(match[2] or 0)
