"""The law of aggregates, checked on a running platform: they equal a plain recount of the gold facts.

A recount needs a cut that both sides agree on. Each shard's total says up to which input offset it counts,
and each fact in the warehouse at which offset of the enriched topic it was read. So the facts below that are
those that were counted, whatever is in flight. Only a revision on its way disturbs it, for it moves its fact
behind the cut.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

import asyncpg
import polars as pl

from gold_writer.aggregates.changelog import Chunk
from schemas.aggregates import CARRY, DAY_PRODUCT, MINUTE_COUNTRY, TOTAL

WINDOW: Final = ("grain", "window_ms", "dimension", "shard")
VALUES: Final = ("lines", "units", "gross", "returns")
_SCHEMA: Final = {
    "grain": pl.String,
    "window_ms": pl.Int64,
    "dimension": pl.String,
    "shard": pl.Int32,
    "lines": pl.Int64,
    "units": pl.Int64,
    "gross": pl.Int128,
    "returns": pl.Int128,
}
_EPOCH_MS: Final = "(extract(epoch FROM {}) * 1000)::bigint"
_GRAINS: Final = (
    (MINUTE_COUNTRY, _EPOCH_MS.format("date_trunc('minute', invoice_ts, 'UTC')"), "coalesce(country, '')"),
    (DAY_PRODUCT, _EPOCH_MS.format("date_trunc('day', invoice_ts, 'UTC')"), "stock_code"),
    (TOTAL, "0::bigint", "''"),
)
_RECOUNT: Final = """
SELECT $1::text, <window>, <dimension>, f.enriched_partition, count(*)::bigint, sum(f.quantity)::bigint,
       coalesce(sum(f.amount_gbp) FILTER (WHERE NOT f.is_return), 0) * 1000000,
       coalesce(sum(f.amount_gbp) FILTER (WHERE f.is_return), 0) * 1000000
FROM warehouse.fact_sales f
JOIN unnest($2::integer[], $3::bigint[]) AS cut (shard, input_offset)
  ON f.enriched_partition = cut.shard AND f.enriched_offset < cut.input_offset
GROUP BY 2, 3, 4
"""
_POSITION: Final = "SELECT partition, next_offset FROM ops.stream_offsets WHERE consumer = $1 AND topic = $2"
_AGAIN_S: Final = 0.1


class WarehouseBehind(Exception):  # noqa: N818 - reads as what happened
    """The warehouse did not reach the cut in time."""


@dataclass(frozen=True, slots=True)
class Counted:
    """The newest totals of every window (columns WINDOW and VALUES), and how far each shard has counted."""

    windows: pl.DataFrame
    cut: Mapping[int, int]


def counted(chunks: Iterable[Chunk]) -> Counted:
    """From all records of the aggregates topic, each partition in order."""
    frames = [chunk.rows.with_columns(key=pl.Series(chunk.keys, dtype=pl.Binary)) for chunk in chunks]
    if not frames:
        return Counted(pl.DataFrame(schema=_SCHEMA), {})
    rows = pl.concat(frames).unique("key", keep="last")
    # A shard that has had heartbeats only has a total of nothing, which no fact accounts for.
    windows = rows.filter(pl.col("lines") != 0).select(
        "grain",
        pl.col("window_start").cast(pl.Int64).alias("window_ms"),
        # As the warehouse stores it: Postgres has no NUL character in text.
        pl.col("dimension").str.replace_all("\x00", "\u2400", literal=True),
        "shard",
        "lines",
        "units",
        _amount("gross_revenue").alias("gross"),
        _amount("returns").alias("returns"),
    )
    totals = rows.filter(pl.col("grain") == TOTAL)
    return Counted(windows, dict(zip(totals["shard"], totals["input_offset"], strict=True)))


def differences(left: pl.DataFrame, right: pl.DataFrame) -> pl.DataFrame:
    """Windows that are not the same in both, with the values of both (null where one lacks the window)."""
    both = left.join(right, on=list(WINDOW), how="full", coalesce=True, suffix="_recounted")
    same = pl.all_horizontal(pl.col(name).eq_missing(pl.col(f"{name}_recounted")) for name in VALUES)
    return both.filter(~same).sort(WINDOW)


async def recounted(
    db: asyncpg.Connection, cut: Mapping[int, int], *, consumer: str, topic: str, within_s: float = 30.0
) -> pl.DataFrame:
    """The same windows from the warehouse's facts below the cut. Raises `WarehouseBehind`."""
    await _wait(db, cut, consumer, topic, within_s)
    frames = [pl.DataFrame(schema=_SCHEMA)]
    for grain, window, dimension in _GRAINS:
        sql = _RECOUNT.replace("<window>", window).replace("<dimension>", dimension)
        rows = await db.fetch(sql, grain, list(cut), list(cut.values()))
        values = [(*row[:6], int(row[6]), int(row[7])) for row in map(tuple, rows)]
        frames.append(pl.DataFrame(values, schema=_SCHEMA, orient="row"))
    return pl.concat(frames)


async def _wait(
    db: asyncpg.Connection, cut: Mapping[int, int], consumer: str, topic: str, within_s: float
) -> None:
    deadline = time.monotonic() + within_s
    while True:
        stored = {row["partition"]: row["next_offset"] for row in await db.fetch(_POSITION, consumer, topic)}
        behind = {shard: offset for shard, offset in cut.items() if stored.get(shard, 0) < offset}
        if not behind:
            return
        if time.monotonic() > deadline:
            raise WarehouseBehind(f"the warehouse is at {stored} of {topic} and the totals at {dict(cut)}")
        await asyncio.sleep(_AGAIN_S)


def _amount(name: str) -> pl.Expr:
    return pl.col(f"{name}_carry").cast(pl.Int128) * CARRY + pl.col(f"{name}_micros").cast(pl.Int128)
