"""A year of a retailer, made of a part of it: real lines, repeated on later days under new invoice numbers.

Deterministic: the same source files, count and seed give the same file, byte for byte. Each repetition is
shifted by a whole number of days, evenly over the year with a seeded jitter; invoice numbers move up by a
fixed step, and keep the C of a cancellation. Everything else is as the source has it.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Final

import numpy as np
import polars as pl

LINES: Final = 541_909
"""The lines of the whole Online Retail data set, December 2010 to December 2011."""

SEED: Final = 20101201
_DAYS: Final = 365
_INVOICE_STEP: Final = 100_000
_COLUMNS: Final = (
    *("InvoiceNo", "StockCode", "Description", "Quantity"),
    *("InvoiceDate", "UnitPrice", "CustomerID", "Country"),
)


def source_lines(folder: Path) -> pl.DataFrame:
    """All lines of `folder`/*.csv as text, in the order of the files."""
    files = sorted(folder.glob("*.csv"))
    if not files:
        raise ValueError(f"{folder} holds no *.csv")
    return pl.concat([pl.read_csv(file, infer_schema=False).select(_COLUMNS) for file in files])


def year(source: pl.DataFrame, lines: int = LINES, seed: int = SEED) -> pl.DataFrame:
    """`lines` lines with the columns of the source."""
    copies = math.ceil(lines / source.height)
    step = _DAYS / copies
    jitter = np.random.default_rng(seed).integers(0, max(int(step), 1), copies)
    parts = [
        _copy(source, turn, int(turn * step) + int(jitter[turn]) if turn else 0) for turn in range(copies)
    ]
    return pl.concat(parts).head(lines)


def _copy(source: pl.DataFrame, turn: int, days: int) -> pl.DataFrame:
    digits = pl.col("InvoiceNo").str.extract(r"(\d+)").cast(pl.Int64) + turn * _INVOICE_STEP
    prefix = pl.col("InvoiceNo").str.extract(r"^(\D*)").fill_null("")
    moved = pl.col("InvoiceDate").str.to_datetime("%Y-%m-%d %H:%M:%S") + pl.duration(days=days)
    return source.with_columns(
        pl.concat_str(prefix, digits).alias("InvoiceNo"),
        moved.dt.strftime("%Y-%m-%d %H:%M:%S").alias("InvoiceDate"),
    )
