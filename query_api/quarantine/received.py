"""From quarantined bytes to the fields that were received, so that people can ask about them and mend them.

    avro   a value of sales.raw.v1, decoded by its schema
    json   an object as it was posted
    csv    a line of a file, by the columns that the item's context names

A field that cannot be read is null, and is there as text too (`text_quantity`); the whole item is in `text`,
the cells of a line of CSV in `cell_1` and on. So an item of which nothing can be read can be mended too.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

import orjson
import polars as pl

from schemas.codec import Codec

Fields = dict[str, Any]

FIELDS: Final = (
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
"""What ingest takes, and so what can be set."""
_NUMBERS: Final = ("line_no", "quantity", "unit_price_micros")
_AS_TEXT: Final = ("line_no", "quantity", "unit_price", "invoice_ts")
MAX_CELLS: Final = 30
_MILLIS: Final = pl.Datetime("ms")

COLUMNS: Final[dict[str, pl.DataType]] = {
    "item_id": pl.String(),
    "stage": pl.String(),
    "reason": pl.String(),
    "detail": pl.String(),
    "load_id": pl.String(),
    "ordinal": pl.Int64(),
    "attempts": pl.Int32(),
    "ingest_ts": _MILLIS,
    "quarantined_ts": _MILLIS,
    **{name: pl.Int64() if name in _NUMBERS else pl.String() for name in FIELDS},
    "invoice_ts": _MILLIS,
    **{f"text_{name}": pl.String() for name in _AS_TEXT},
    "text": pl.String(),
    **{f"cell_{i}": pl.String() for i in range(1, MAX_CELLS + 1)},
}
"""What an expression may use."""


@dataclass(frozen=True, slots=True)
class Received:
    """`frame` has COLUMNS; `sales[i]` is the item of row i as ingest would take it, nothing mended."""

    frame: pl.DataFrame
    sales: Sequence[Fields]


def read(items: Sequence[Mapping[str, Any]], codec: Codec) -> Received:
    """`items`: rows of `ops.quarantine`. Raises `RegistryUnavailable` where a schema cannot be fetched."""
    avro = [i for i, item in enumerate(items) if item["payload_format"] == "avro"]
    decoded = dict(zip(avro, _from_avro([items[i]["payload"] for i in avro], codec), strict=True))
    sales = [decoded[i] if i in decoded else _from_text(item) for i, item in enumerate(items)]
    for item, sale in zip(items, sales, strict=True):
        _complete(sale, item)
    rows = [_row(item, sale) for item, sale in zip(items, sales, strict=True)]
    texts = {name: pl.String() if name in (*FIELDS, *_texts()) else kind for name, kind in COLUMNS.items()}
    return Received(_typed(pl.DataFrame(rows, schema=texts, orient="row")), sales)


def _from_avro(values: Sequence[bytes], codec: Codec) -> list[Fields]:
    found: list[Fields] = [{} for _ in values]
    if not values:
        return found
    decoded = codec.decode(list(values))
    for place, row in zip(decoded.index.tolist(), decoded.frame.iter_rows(named=True), strict=True):
        sale = {name: row[name] for name in FIELDS if row.get(name) is not None}
        sale["invoice_ts"] = sale["invoice_ts"].isoformat(timespec="milliseconds") + "Z"
        if row["attributes"]:
            sale["attributes"] = {pair["key"]: pair["value"] for pair in _pairs(row["attributes"])}
        found[place] = sale
    return found


def _pairs(attributes: Any) -> Sequence[Mapping[str, str]]:
    if isinstance(attributes, dict):
        return [{"key": key, "value": value} for key, value in attributes.items()]
    return list(attributes)


def _from_text(item: Mapping[str, Any]) -> Fields:
    try:
        text = item["payload"].decode()
    except UnicodeDecodeError:
        return {}
    return _from_json(text) if item["payload_format"] == "json" else _from_csv(text, _context(item))


def _from_json(text: str) -> Fields:
    try:
        # Numbers stay text: a price is no float. A name that is given twice has no one value.
        found = json.loads(text, object_pairs_hook=_once, parse_float=str, parse_int=str)
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def _once(pairs: Sequence[tuple[str, Any]]) -> Fields:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("a name is given twice")
    return found


def _from_csv(text: str, context: Mapping[str, Any]) -> Fields:
    columns, cells = context.get("columns") or [], _cells(text)
    if len(cells) != len(columns):
        return {}
    sale: Fields = {}
    others = {}
    for name, cell in zip(columns, cells, strict=True):
        if name in FIELDS:
            if cell != "" or name in ("invoice_no", "stock_code"):
                sale[name] = cell
        elif cell != "":
            others[name] = cell
    return {**sale, "attributes": others} if others else sale


def _cells(text: str) -> list[str]:
    try:
        return next(csv.reader(io.StringIO(text, newline="")), [])
    except csv.Error:
        return []


def _complete(sale: Fields, item: Mapping[str, Any]) -> None:
    """What the item does not say and its door knew, and the id under which it was refused."""
    context = _context(item)
    for name in ("source_system", "currency", "line_no"):
        if sale.get(name) is None and context.get(name) is not None:
            sale[name] = context[name]
    if not sale.get("event_id") and item["event_id"]:
        sale["event_id"] = item["event_id"]


def _context(item: Mapping[str, Any]) -> Fields:
    found = orjson.loads(item["context"]) if item["context"] else {}
    return found if isinstance(found, dict) else {}


def _texts() -> list[str]:
    return [f"text_{name}" for name in _AS_TEXT]


def _row(item: Mapping[str, Any], sale: Fields) -> list[Any]:
    fields = {name: _plain(sale.get(name)) for name in FIELDS}
    fields["source_system"] = fields["source_system"] or item["source_system"]
    fields["currency"] = fields["currency"] or item["currency"]
    text = "" if item["payload_format"] == "avro" else item["payload"].decode("utf-8", "replace")
    cells = _cells(text)[:MAX_CELLS] if item["payload_format"] == "csv" else []
    known = {
        **{
            name: item[name]
            for name in ("item_id", "stage", "reason", "detail", "load_id", "ordinal", "attempts")
        },
        **{name: _naive(item[name]) for name in ("ingest_ts", "quarantined_ts")},
        **fields,
        **{f"text_{name}": fields[name] for name in _AS_TEXT},
        "text": text,
        **{f"cell_{i}": cell for i, cell in enumerate(cells, 1)},
    }
    return [known.get(name) for name in COLUMNS]


def _naive(at: datetime) -> datetime:
    return at.replace(tzinfo=None)


def _plain(value: Any) -> str | None:
    """A scalar as text; what is nested, or true and false, is none of a sale's values."""
    if value is None or isinstance(value, dict | list | bool):
        return None
    return str(value)


def _typed(frame: pl.DataFrame) -> pl.DataFrame:
    price = pl.col("unit_price").str.strip_chars()
    decimal = price.str.contains(r"^[+-]?[0-9]{1,12}(\.[0-9]{1,6})?$")
    micros = pl.when(decimal).then(price).cast(pl.Decimal(18, 6)) * 1_000_000
    numbers = [pl.col(name).str.strip_chars().cast(pl.Int64, strict=False) for name in _NUMBERS]
    typed = frame.with_columns(
        *numbers, pl.col("invoice_ts").str.strip_suffix("Z").str.to_datetime(time_unit="ms", strict=False)
    )
    typed = typed.with_columns(pl.coalesce("unit_price_micros", micros.cast(pl.Int64)))
    return typed.select(pl.col(name).cast(kind) for name, kind in COLUMNS.items())
