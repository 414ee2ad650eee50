"""Reading whole columns of text into the types of a sale: the columnar twin of `careful.sale`.

A row that does not `fit` is left to `careful.sale`, which knows why or reads more forms. So these functions
may be stricter than their scalar twins and never looser.
"""

from __future__ import annotations

from typing import Final

import polars as pl

from ingest_service.model import TEXT_FIELDS, Defaults
from ingest_service.values import MAX_EVENT_ID, MAX_TIME_MS, MIN_TIME_MS
from schemas.heartbeat import is_heartbeat

_PRICE: Final = r"^[+-]?[0-9]{1,12}(?:\.[0-9]{1,6}0*)?$"
_MILLIS: Final = r"^-?[0-9]{1,15}$"
_DAY: Final = r"[0-9]{4}-[0-9]{2}-[0-9]{2}"
_TIME: Final = r"[0-9]{2}:[0-9]{2}:[0-5][0-9]"
_OFFSET: Final = r"[+-](?:[01][0-9]|2[0-3]):?[0-5][0-9]"
_ISO: Final = rf"^{_DAY}[ T]{_TIME}(?:\.[0-9]{{1,9}})?(?:Z|{_OFFSET})?$"
_NAIVE: Final = rf"^{_DAY}[ T]{_TIME}Z?$"

_REQUIRED: Final = (
    "source_system",
    "invoice_no",
    "stock_code",
    "quantity",
    "unit_price_micros",
    "currency",
    "invoice_ts",
)


def typed(received: pl.DataFrame, defaults: Defaults) -> pl.DataFrame:
    """Columns of `model.RAW` without `attributes`, and `fits`.

    `received`: String columns named as in TEXT_FIELDS, null where an item lacks the field; a column that
    is not there counts as null. The order of the rows stays.
    """
    texts = received.with_columns(
        pl.lit(None, dtype=pl.String).alias(name) for name in TEXT_FIELDS if name not in received.columns
    )
    frame = texts.select(
        event_id=_empty_to_null(pl.col("event_id").str.strip_chars()),
        source_system=_source(defaults),
        invoice_no=pl.col("invoice_no"),
        line_no=whole(pl.col("line_no"), pl.Int32),
        stock_code=pl.col("stock_code"),
        description=pl.col("description"),
        quantity=whole(pl.col("quantity"), pl.Int32),
        unit_price_micros=_micros(),
        currency=pl.col("currency").fill_null(pl.lit(defaults.currency, dtype=pl.String)),
        customer_id=pl.col("customer_id"),
        country=pl.col("country"),
        invoice_ts=time_ms(texts["invoice_ts"]).cast(pl.Datetime("ms")),
    )
    return frame.with_columns(
        fits=_fits(frame, texts, defaults),
        line_no=pl.col("line_no").fill_null(0),
    )


def utf8(payload: pl.Series) -> pl.Series:
    """As text; null where the bytes are not UTF-8."""
    try:
        return payload.cast(pl.String)
    except pl.exceptions.ComputeError:
        return pl.Series([_decoded(item) for item in payload], dtype=pl.String)


def _decoded(item: bytes) -> str | None:
    try:
        return item.decode()
    except UnicodeDecodeError:
        return None


def whole(text: pl.Expr, dtype: type[pl.Int32 | pl.Int64]) -> pl.Expr:
    """Null where the text is no whole number of that type; 6.0 is left to the scalar twin."""
    return text.str.strip_chars().cast(dtype, strict=False)


def price_micros(text: pl.Expr) -> pl.Expr:
    """Millionths of a decimal text; null where it has another form, or more than twelve whole digits."""
    stripped = text.str.strip_chars()
    parts = stripped.str.strip_chars_start("+-").str.split_exact(".", 1)
    units = parts.struct.field("field_0").cast(pl.Int64, strict=False)
    decimals = parts.struct.field("field_1").fill_null("").str.pad_end(6, "0").str.slice(0, 6)
    micros = units * 1_000_000 + decimals.cast(pl.Int64, strict=False)
    signed = pl.when(stripped.str.starts_with("-")).then(-micros).otherwise(micros)
    return pl.when(stripped.str.contains(_PRICE)).then(signed)


def time_ms(texts: pl.Series) -> pl.Series:
    """Milliseconds since 1970 UTC; null where the text is neither ISO 8601 with seconds nor a number.

    Offsets and fractions cost three passes over the column, so they are read only where there are any.
    """
    column = texts.str.strip_chars().alias("text")
    frame = column.to_frame()
    base = _local_ms(pl.col("text"))
    if bool(column.str.contains(_NAIVE).all(ignore_nulls=True)):
        found = base
    else:
        iso = pl.when(pl.col("text").str.contains(_ISO)).then(
            base + _fraction_ms(pl.col("text")) - _offset_ms(pl.col("text"))
        )
        number = pl.when(pl.col("text").str.contains(_MILLIS)).then(
            pl.col("text").cast(pl.Int64, strict=False)
        )
        found = pl.coalesce(iso, number)
    in_range = found.is_between(MIN_TIME_MS, MAX_TIME_MS)
    return frame.select(pl.when(in_range).then(found).alias("invoice_ts")).to_series()


def _local_ms(text: pl.Expr) -> pl.Expr:
    local = text.str.slice(0, 10) + " " + text.str.slice(11, 8)
    parsed = local.str.to_datetime("%Y-%m-%d %H:%M:%S", strict=False, time_unit="ms")
    return parsed.cast(pl.Int64)


def _fraction_ms(text: pl.Expr) -> pl.Expr:
    digits = text.str.extract(r"\.([0-9]{1,9})").fill_null("0")
    return digits.str.pad_end(3, "0").str.slice(0, 3).cast(pl.Int64, strict=False)


def _offset_ms(text: pl.Expr) -> pl.Expr:
    offset = text.str.extract(rf"({_OFFSET})$")
    hours = offset.str.slice(1, 2).cast(pl.Int64, strict=False)
    minutes = offset.str.slice(-2).cast(pl.Int64, strict=False)
    sign = pl.when(offset.str.starts_with("-")).then(-1).otherwise(1)
    return (sign * (hours * 60 + minutes) * 60_000).fill_null(0)


def _micros() -> pl.Expr:
    micros = whole(pl.col("unit_price_micros"), pl.Int64)
    price = price_micros(pl.col("unit_price"))
    return pl.when(pl.col("unit_price_micros").is_null()).then(price).otherwise(micros)


def _source(defaults: Defaults) -> pl.Expr:
    given = _empty_to_null(pl.col("source_system").str.strip_chars())
    return given.fill_null(pl.lit(defaults.source, dtype=pl.String))


def _fits(frame: pl.DataFrame, texts: pl.DataFrame, defaults: Defaults) -> pl.Series:
    """Everything required is there, and nothing that was sent has been lost."""
    sent = texts.select(
        pl.col("line_no", "unit_price", "unit_price_micros").is_not_null().name.prefix("sent_")
    )
    same_source = pl.col("source_system") == pl.lit(defaults.source if defaults.fixed_source else None)
    has_line = pl.col("line_no").ge(1).fill_null(False)
    checks = (
        pl.all_horizontal(pl.col(_REQUIRED).is_not_null()),
        pl.col("event_id").str.len_chars().le(MAX_EVENT_ID).fill_null(True),
        ~is_heartbeat(),
        pl.when("sent_line_no").then(has_line).otherwise(pl.col("event_id").is_not_null()),
        pl.col("sent_unit_price") != pl.col("sent_unit_price_micros"),
        same_source.fill_null(not defaults.fixed_source),
    )
    wide = pl.concat([frame, sent], how="horizontal")
    return wide.select(fits=pl.all_horizontal(checks)).to_series()


def _empty_to_null(text: pl.Expr) -> pl.Expr:
    return pl.when(text != "").then(text)
