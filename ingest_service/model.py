"""What passes between the steps of the pipeline: sales that could be read, and items that could not.

Exactly one of the two holds each item. `ordinal` is the item's place in its request or file, from 1.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any, Final

import numpy as np
import orjson
import polars as pl
import pyarrow as pa

UNDECODABLE: Final = "UNDECODABLE"

ATTRIBUTES: Final = pl.Map(pl.String, pl.String)

_RAW: Final[dict[str, pl.DataType | type[pl.DataType]]] = {
    "event_id": pl.String,
    "source_system": pl.String,
    "invoice_no": pl.String,
    "line_no": pl.Int32,
    "stock_code": pl.String,
    "description": pl.String,
    "quantity": pl.Int32,
    "unit_price_micros": pl.Int64,
    "currency": pl.String,
    "customer_id": pl.String,
    "country": pl.String,
    "invoice_ts": pl.Datetime("ms"),
    "attributes": ATTRIBUTES,
}

RAW: Final = pl.Schema(_RAW)
"""The columns of `sales.raw.v1`. Before `pipeline.identify`, `event_id` is null where none was given."""

SALES: Final = pl.Schema({"ordinal": pl.Int64, **_RAW})

REFUSED: Final = pl.Schema(
    {
        "ordinal": pl.Int64,
        "payload": pl.Binary,
        "detail": pl.String,
        "event_id": pl.String,
        "source_system": pl.String,
        "amount_micros": pl.Int64,
        "currency": pl.String,
        "context": pl.String,
    }
)

TEXT_FIELDS: Final = (
    "event_id",
    "source_system",
    "invoice_no",
    "line_no",
    "stock_code",
    "description",
    "quantity",
    "unit_price",
    "unit_price_micros",
    "currency",
    "customer_id",
    "country",
    "invoice_ts",
)
"""The fields of an item as it is received, `attributes` apart. Any other name becomes an attribute."""


@dataclass(frozen=True, slots=True)
class Defaults:
    """What an item need not say itself.

    `fixed_source`: the door decides the source (a webhook's path), and an item that names another is
    refused.
    """

    source: str | None = None
    currency: str | None = None
    fixed_source: bool = False


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why an item is no sale, and what could be read of it all the same.

    `context`: JSON, what a replay needs beside the bytes (`model.context`).
    """

    detail: str
    event_id: str | None = None
    source_system: str | None = None
    amount_micros: int | None = None
    currency: str | None = None
    context: str | None = None


@dataclass(frozen=True, slots=True)
class Parsed:
    """`sales` has the columns of SALES, `refused` those of REFUSED; both ascend by `ordinal`."""

    sales: pl.DataFrame
    refused: pl.DataFrame

    def __len__(self) -> int:
        return self.sales.height + self.refused.height


def context(
    defaults: Defaults, *, columns: Sequence[str] | None = None, line_no: int | None = None
) -> str | None:
    """What the door knew of an item beside its bytes, as JSON; None where that is nothing.

    `columns`: the fields of its file in order; `line_no`: the line of its invoice.
    """
    known = {
        "columns": None if columns is None else list(columns),
        "line_no": line_no,
        "source_system": defaults.source,
        "currency": defaults.currency,
    }
    told = {name: value for name, value in known.items() if value is not None}
    return orjson.dumps(told).decode() if told else None


def sales_frame(rows: Sequence[Mapping[str, Any]]) -> pl.DataFrame:
    """Columns of SALES from single rows, `invoice_ts` in milliseconds since 1970."""
    schema = {name: dtype for name, dtype in SALES.items() if name != "attributes"}
    frame = pl.DataFrame(rows, schema={**schema, "invoice_ts": pl.Int64}, orient="row")
    return frame.cast({"invoice_ts": SALES["invoice_ts"]}).with_columns(
        attributes_column([row["attributes"] for row in rows])
    )


def refused_frame(rows: Sequence[tuple[int, bytes, Refusal]]) -> pl.DataFrame:
    """Columns of REFUSED from (ordinal, original bytes, refusal)."""
    return pl.DataFrame(
        [
            (ordinal, payload, *(getattr(r, name) for name in REFUSED.names()[2:]))
            for ordinal, payload, r in rows
        ],
        schema=REFUSED,
        orient="row",
    )


def merged(fast: pl.DataFrame, slow: pl.DataFrame) -> pl.DataFrame:
    """Both in the order of their ordinals."""
    if slow.is_empty():
        return fast
    return pl.concat([fast, slow]).sort("ordinal")


def attributes_column(rows: Sequence[Mapping[str, str]]) -> pl.Series:
    """A map per row, through flat lists: Polars takes 25 times as long to convert dicts itself."""
    offsets = np.cumsum([0, *map(len, rows)], dtype=np.int32)
    names = pa.array(list(chain.from_iterable(rows)), pa.large_string())
    texts = pa.array(list(chain.from_iterable(row.values() for row in rows)), pa.large_string())
    column = pl.from_arrow(pa.MapArray.from_arrays(pa.array(offsets), names, texts))
    assert isinstance(column, pl.Series)
    return column.alias("attributes")


def no_attributes(rows: int) -> pl.Series:
    return pl.Series("attributes", [{}], dtype=ATTRIBUTES).new_from_index(0, rows)
