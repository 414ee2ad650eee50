"""The raw sales that the stage benchmarks read: real invoice lines, repeated under new invoice numbers.

Deterministic: the same count and seed give the same records, byte for byte. One line in 200 is broken so that
one of the eight rejecting rules applies, each rule in turn, and one in 100 is sent twice.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import polars as pl

from schemas.catalogue import load_topics
from schemas.codec import Codec
from schemas.fakes import InMemoryRegistry
from schemas.identity import event_id_expr

SAMPLES: Final = Path(__file__).parents[2] / "samples" / "online-retail"
SEED: Final = 20101201
NOW_MS: Final = 1_700_000_000_000
"""The clock of every peer: the rule about times must not depend on the day of the benchmark."""

RAW_SCHEMA_ID: Final = 1
BROKEN_EVERY: Final = 200
TWICE_EVERY: Final = 100
_CHUNK: Final = 50_000
_INVOICE_STEP: Final = 100_000


@dataclass(frozen=True, slots=True)
class Chunk:
    """Records to produce: the key is the event id."""

    keys: list[bytes]
    values: list[bytes]


def raw_schema() -> str:
    return load_topics()["sales.raw.v1"].schema_text


def chunks(records: int, seed: int = SEED) -> Iterator[Chunk]:
    """`records` framed raw sales, a part at a time, in the order in which they are produced."""
    registry = InMemoryRegistry()
    if registry.register("sales.raw.v1-value", raw_schema()) != RAW_SCHEMA_ID:
        raise RuntimeError("a new registry gave an unexpected id")
    codec = Codec(raw_schema(), registry)
    base, rng = real_lines(), np.random.default_rng(seed)
    for begin in range(0, records, _CHUNK):
        rows = _rows(base, begin, min(_CHUNK, records - begin), rng)
        keys: list[bytes] = rows["event_id"].cast(pl.Binary).to_list()
        yield Chunk(keys, codec.encode(rows, RAW_SCHEMA_ID))


def real_lines() -> pl.DataFrame:
    """The sample's lines as raw sales without event ids, numbered within their invoice."""
    texts = ("InvoiceNo", "StockCode", "Description", "CustomerID", "Country")
    files = sorted(SAMPLES.glob("*.csv"))
    frame = pl.concat([pl.read_csv(f, schema_overrides=dict.fromkeys(texts, pl.String)) for f in files])
    return frame.select(
        pl.lit("online-retail").alias("source_system"),
        pl.col("InvoiceNo").alias("invoice_no"),
        (pl.int_range(pl.len()).over("InvoiceNo") + 1).cast(pl.Int32).alias("line_no"),
        pl.col("StockCode").alias("stock_code"),
        pl.col("Description").str.strip_chars().alias("description"),
        pl.col("Quantity").cast(pl.Int32).alias("quantity"),
        (pl.col("UnitPrice") * 1_000_000).round().cast(pl.Int64).alias("unit_price_micros"),
        pl.lit("GBP").alias("currency"),
        pl.col("CustomerID").str.replace(r"\.0$", "").alias("customer_id"),
        pl.col("Country").alias("country"),
        pl.col("InvoiceDate").str.to_datetime(time_unit="ms").alias("invoice_ts"),
    )


def _rows(base: pl.DataFrame, begin: int, count: int, rng: np.random.Generator) -> pl.DataFrame:
    place = np.arange(begin, begin + count)
    # A line sent twice comes again some hundreds of lines later, as after a producer's time-out.
    twice = (place % TWICE_EVERY == TWICE_EVERY - 1) & (place > 2_000)
    place = np.where(twice, place - rng.integers(1, 2_000, count), place)
    turn = pl.Series("turn", place // base.height)
    rows = base[place % base.height].with_columns(turn, pl.Series("place", place))
    digits = pl.col("invoice_no").str.extract(r"(\d+)").cast(pl.Int64) + pl.col("turn") * _INVOICE_STEP
    rows = rows.with_columns(
        invoice_no=pl.concat_str(pl.col("invoice_no").str.extract(r"^(\D*)").fill_null(""), digits)
    )
    broken = pl.when(pl.col("place") % BROKEN_EVERY == BROKEN_EVERY // 2).then(
        pl.col("place") // BROKEN_EVERY % len(BREAKS)
    )
    # By the place and not by chance, so that both copies of a line are broken alike.
    for kind, breaks in enumerate(BREAKS):
        rows = rows.with_columns(
            [pl.when(broken == kind).then(new).otherwise(pl.col(name)).alias(name) for name, new in breaks]
        )
    return rows.with_columns(event_id=event_id_expr()).drop("turn", "place")


BREAKS: Final[tuple[list[tuple[str, pl.Expr]], ...]] = (
    [("stock_code", pl.lit(""))],  # EMPTY_KEY
    [("quantity", pl.lit(0, pl.Int32))],  # ZERO_QUANTITY
    [("quantity", pl.lit(-3, pl.Int32)), ("invoice_no", pl.col("invoice_no").str.strip_prefix("C"))],
    [("unit_price_micros", pl.lit(-1_000_000, pl.Int64))],  # NEGATIVE_PRICE
    [("currency", pl.lit("XXQ"))],  # BAD_CURRENCY
    [("invoice_ts", pl.lit(NOW_MS + 90_000_000, pl.Int64).cast(pl.Datetime("ms")))],  # TIMESTAMP_RANGE
    [("unit_price_micros", pl.lit(10**18, pl.Int64))],  # AMOUNT_RANGE
    [("country", pl.lit("X" * 201))],  # KEY_RANGE
)
"""What to change so that a rule applies; the third is NEGATIVE_QUANTITY."""
