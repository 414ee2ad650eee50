"""Which column of a decoded batch becomes which column of a table, and how it travels through COPY. Pure.

A batch goes as CSV, written by Polars, into a temporary table of cheap types (`Column.staged_type`), and from
there by one INSERT ... SELECT (`Column.expression`) into its table. Postgres computes the money and the
times: exact, and cheaper there than as text.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass

import polars as pl

MAX_LABEL = 200
"""Characters kept of a load id. It comes from a header that any producer writes, and it is indexed: a B-tree
entry is limited to 2,704 bytes."""

_TEXT = 'text COLLATE "C"'


@dataclass(frozen=True, slots=True)
class Column:
    """One column on its way: `source` in the frame, `name` in the table, `staged_type` in between."""

    name: str
    source: str
    staged_type: str
    expression: str


def plain(name: str, staged_type: str, source: str | None = None) -> Column:
    return Column(name, source or name, staged_type, f"s.{name}")


def text(name: str, source: str | None = None) -> Column:
    return plain(name, _TEXT, source)


def money(name: str) -> Column:
    """From Int64 micros, in the frame's column `<name>_micros`, to numeric with six places."""
    return Column(name, f"{name}_micros", "bigint", f"s.{name} * 0.000001::numeric")


def time(name: str) -> Column:
    """From milliseconds since 1970 UTC."""
    return Column(name, name, "bigint", f"timestamptz 'epoch' + s.{name} * interval '1 millisecond'")


def instant(name: str) -> Column:
    """A time in microseconds, as text: a product with an interval would be computed in floating point."""
    return plain(name, "timestamptz")


FACT: tuple[Column, ...] = (
    plain("date_key", "integer"),
    text("event_id"),
    text("source_system"),
    text("invoice_no"),
    plain("line_no", "integer"),
    text("stock_code"),
    text("description"),
    text("customer_id"),
    plain("sale_key", "bigint"),
    plain("customer_key", "bigint"),
    plain("product_key", "bigint"),
    plain("invoice_key", "bigint"),
    plain("quantity", "integer"),
    money("unit_price"),
    text("currency"),
    money("total_amount"),
    money("amount_gbp"),
    text("country"),
    text("country_code"),
    text("region"),
    plain("is_return", "boolean"),
    plain("is_product", "boolean"),
    plain("quality_score", "double precision"),
    plain("warnings", "text[]"),
    time("invoice_ts"),
    time("recorded_at"),
    plain("revision", "integer"),
    text("content_hash"),
    text("load_id"),
    time("ingest_ts"),
    time("validated_ts"),
    plain("raw_partition", "integer"),
    plain("raw_offset", "bigint"),
    plain("validated_partition", "integer"),
    plain("validated_offset", "bigint"),
    plain("enriched_partition", "integer"),
    plain("enriched_offset", "bigint"),
)

QUARANTINE: tuple[Column, ...] = (
    plain("quarantine_partition", "integer"),
    plain("quarantine_offset", "bigint"),
    text("item_id"),
    text("state"),
    text("stage"),
    text("event_id"),
    text("reason"),
    plain("rules", "text[]"),
    text("detail"),
    text("source_system"),
    text("load_id"),
    plain("ordinal", "bigint"),
    plain("payload", "bytea"),
    text("payload_format"),
    plain("schema_id", "integer"),
    text("raw_topic_id", source="topic_id"),
    plain("raw_partition", "integer", source="partition"),
    plain("raw_offset", "bigint", source="offset"),
    text("content_hash"),
    money("amount"),
    text("currency"),
    text("traceparent"),
    time("ingest_ts"),
    time("quarantined_ts"),
    plain("attempts", "integer"),
    plain("context", "text"),
)


def to_csv(frame: pl.DataFrame, columns: Sequence[Column]) -> bytes:
    """The frame's rows as CSV for `COPY ... (FORMAT csv)`: null is nothing, an empty string is `""`."""
    out = io.BytesIO()
    frame.select(_as_text(frame.schema, column) for column in columns).write_csv(out, include_header=False)
    return out.getvalue()


def _as_text(schema: pl.Schema, column: Column) -> pl.Expr:
    value, kind = pl.col(column.source), schema[column.source]
    if isinstance(kind, pl.Datetime) and column.staged_type == "timestamptz":
        value = value.dt.strftime("%Y-%m-%dT%H:%M:%S%.6fZ")
    elif isinstance(kind, pl.Datetime):
        value = value.cast(pl.Datetime("ms", kind.time_zone)).cast(pl.Int64)
    elif isinstance(kind, pl.List):
        value = _array_literal(value)
    elif kind == pl.Binary:
        value = pl.lit("\\x") + value.bin.encode("hex")
    elif kind == pl.String:
        # Postgres has no NUL character in text; the symbol for it (U+2400) shows that one was there.
        value = value.str.replace_all("\x00", "\u2400", literal=True)
        if column.name == "load_id":
            value = value.str.slice(0, MAX_LABEL)
    return value.alias(column.name)


def _array_literal(value: pl.Expr) -> pl.Expr:
    """List(String) in the syntax of a Postgres array, every element quoted."""
    element = (
        pl.element().str.replace_all("\x00", "\u2400", literal=True).str.replace_all(r'(["\\])', r"\${1}")
    )
    joined = pl.lit('{"') + value.list.eval(element).list.join('","') + pl.lit('"}')
    return pl.when(value.list.len() == 0).then(pl.lit("{}")).otherwise(joined)
