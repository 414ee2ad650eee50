"""Columns that depend on the sale alone: amount, keys, flags, date. Pure."""

from __future__ import annotations

import polars as pl

from schemas.identity import customer_key_expr, invoice_key_expr, product_key_expr, sale_key_expr

PRODUCT_CODE = r"^[0-9]{5}[A-Za-z]*$"
"""A product is five digits with an optional suffix of letters (85123A, 15056BL); POST, DOT, M are none."""


def add_amount(frame: pl.DataFrame) -> pl.DataFrame:
    """`total_amount_micros` (Int64) = quantity * unit price; quality's AMOUNT_RANGE keeps it within range."""
    return frame.with_columns(
        total_amount_micros=pl.col("quantity").cast(pl.Int64) * pl.col("unit_price_micros")
    )


def add_keys(frame: pl.DataFrame) -> pl.DataFrame:
    """Surrogate keys (Int64). Customer and product get their first versions, which is right for every member
    that has but one, known or not; `asof` puts later ones in place. A sale of no customer has the guest's."""
    date = pl.col("invoice_ts").dt
    return frame.with_columns(
        sale_key=sale_key_expr(),
        customer_key=customer_key_expr(),
        product_key=product_key_expr(),
        invoice_key=invoice_key_expr(),
        date_key=date.year() * 10_000 + date.month().cast(pl.Int32) * 100 + date.day().cast(pl.Int32),
    )


def add_flags(frame: pl.DataFrame) -> pl.DataFrame:
    """`is_return`: a line of a cancellation, whose invoice number begins with C. `is_product`."""
    return frame.with_columns(
        is_return=pl.col("invoice_no").str.starts_with("C"),
        is_product=pl.col("stock_code").str.contains(PRODUCT_CODE),
    )


def add_revision(frame: pl.DataFrame, recorded_at_ms: int) -> pl.DataFrame:
    """Revision 0, made at `recorded_at_ms` (ms since 1970 UTC)."""
    return frame.with_columns(
        revision=pl.lit(0, pl.Int32),
        recorded_at=pl.lit(recorded_at_ms, pl.Int64).cast(pl.Datetime("ms")),
    )
