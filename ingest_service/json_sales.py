"""JSON items to sales. Rows whose text is plain are read as columns; the others one by one.

*Plain* is decided by a regular expression over the text (linear, in Rust): a flat object of strings, null
and numbers that a double keeps exactly. So the columnar parser meets nothing that it would read otherwise
than `careful.json_item`: no nesting, no exponents, no long numbers, no surrogates, no U+0000.
"""

from __future__ import annotations

import io
from dataclasses import replace
from decimal import Decimal
from typing import Final

import orjson
import polars as pl

from ingest_service import careful, columns, values
from ingest_service.careful import NotJson
from ingest_service.json_body import JSON_SPACE
from ingest_service.model import (
    SALES,
    TEXT_FIELDS,
    Defaults,
    Parsed,
    Refusal,
    attributes_column,
    context,
    merged,
    no_attributes,
    refused_frame,
    sales_frame,
)

# Below this many items the columns cost more than they save.
_FEW: Final = 24
# Bounds the copies of the text that reading it as columns makes.
_PART_ROWS: Final = 20_000

_SPACE: Final = r"[ \t\r\n]*"
_STRING: Final = (
    r'"(?:[^"\\\x00-\x1f]|\\["\\/bfnrt]|\\u(?:00[2-9a-fA-F]|0[1-9a-fA-F][0-9a-fA-F]'
    r'|[1-9a-ce-fA-CE-F][0-9a-fA-F]{2}|[dD][0-7][0-9a-fA-F])[0-9a-fA-F])*"'
)
# At most 15 significant digits. A negative zero is left out: its text would differ.
_NUMBER: Final = r"(?:-?[1-9][0-9]{0,8}(?:\.[0-9]{1,6})?|0(?:\.[0-9]{1,6})?|[1-9][0-9]{9,14})"
_VALUE: Final = f"(?:{_STRING}|{_NUMBER}|null)"


def _object_of(key: str) -> str:
    member = f"{_SPACE}{key}{_SPACE}:{_SPACE}{_VALUE}{_SPACE}"
    return rf"^{_SPACE}\{{{member}(?:,{member})*\}}{_SPACE}$"


_PLAIN: Final = _object_of(f'"(?:{"|".join(TEXT_FIELDS)})"')
_FLAT: Final = _object_of(r'"[^"\\\x00-\x1f]*"')
_SPECIAL: Final = '"attributes"'  # text in place of an object: for `careful` to refuse
# Text that looks like a key; a string may hold it too, so it counts at least every key.
_KEY: Final = r'"[ \t\r\n]*:'
_TEXTS: Final = pl.Schema(dict.fromkeys(TEXT_FIELDS, pl.String))


def parse(payload: pl.Series, defaults: Defaults, *, whole_body: bool) -> Parsed:
    """`payload`: one item each. `whole_body`: they are one JSON document, so an item that is no JSON raises
    `NotJson` with `position` counted within `item` (its index); without it the item is refused."""
    if len(payload) < _FEW:
        return _one_by_one(_numbered(payload, 0), defaults, whole_body)
    parts = [
        _part(payload.slice(start, _PART_ROWS), start, defaults, whole_body)
        for start in range(0, len(payload), _PART_ROWS)
    ]
    return Parsed(pl.concat([part.sales for part in parts]), pl.concat([part.refused for part in parts]))


def _part(payload: pl.Series, start: int, defaults: Defaults, whole_body: bool) -> Parsed:
    """`start`: items before these."""
    items = _numbered(payload, start).with_columns(columns.utf8(payload).alias("text"))
    plain = items["text"].str.contains(_PLAIN).fill_null(False)
    flat = items["text"].str.contains(_FLAT) & ~items["text"].str.contains(_SPECIAL, literal=True)
    extra = ~plain & flat.fill_null(False)
    fast = _columnar(items.filter(plain | extra), extra.filter(plain | extra), defaults)
    rest = items.join(fast.select("ordinal"), on="ordinal", how="anti", maintain_order="left")
    slow = _one_by_one(rest, defaults, whole_body)
    return Parsed(merged(fast, slow.sales), slow.refused)


def _numbered(payload: pl.Series, start: int) -> pl.DataFrame:
    ordinals = pl.int_range(start + 1, start + len(payload) + 1, dtype=pl.Int64, eager=True)
    return pl.DataFrame({"ordinal": ordinals, "payload": payload})


class ItemNotJson(NotJson):
    """`index`: of the item, from 0; `position` counts from its first byte."""

    def __init__(self, reason: NotJson, index: int) -> None:
        super().__init__(str(reason), reason.position)
        self.index = index


def _columnar(items: pl.DataFrame, extra: pl.Series, defaults: Defaults) -> pl.DataFrame:
    """Columns of SALES for the rows that fit. `extra`: rows with fields that become attributes."""
    if items.is_empty():
        return SALES.to_frame()
    one_line = items["text"].str.replace_all("\n", " ", literal=True)
    texts = pl.read_ndjson(io.BytesIO(one_line.str.join("\n").item().encode()), schema=_TEXTS)
    assert texts.height == items.height, "a plain item is one object"
    sales = columns.typed(texts, defaults)
    attributes, readable = _attributes(items["text"], extra)
    unique = extra | _each_key_once(items["text"], texts)
    fits = sales["fits"] & readable & unique
    return sales.with_columns(items["ordinal"], attributes).filter(fits).select(SALES.names())


def _each_key_once(text: pl.Series, texts: pl.DataFrame) -> pl.Series:
    """Whether an object of known keys has none twice. With as many keys as values that is sure; where there
    are nulls, each name is counted (no string can hold one in quotes but as the whole of it)."""
    keys = text.str.count_matches(_KEY)
    complete = keys == texts.select(pl.sum_horizontal(pl.all().is_not_null())).to_series()
    if complete.all():
        return complete
    counts = [text.str.count_matches(f'"{name}"', literal=True) for name in TEXT_FIELDS]
    once = pl.DataFrame(counts, schema=list(TEXT_FIELDS)).select(pl.all_horizontal(pl.all() <= 1)).to_series()
    return complete | once


def _attributes(text: pl.Series, extra: pl.Series) -> tuple[pl.Series, pl.Series]:
    """The attributes of each row, and whether they could be read. Only rows with any are parsed for them:
    their names are the sender's, so they cannot be columns."""
    if not extra.any():
        return no_attributes(len(text)), pl.repeat(True, len(text), eager=True)
    keys = text.str.count_matches(_KEY)
    found = [_extra(item, count) if has else {} for item, has, count in zip(text, extra, keys, strict=True)]
    readable = pl.Series([attributes is not None for attributes in found], dtype=pl.Boolean)
    return attributes_column([attributes or {} for attributes in found]), readable


def _extra(item: str, keys: int) -> dict[str, str] | None:
    """The fields of a flat object that a sale does not have; None where `careful` must look."""
    document = orjson.loads(item)
    if len(document) != keys:  # a field twice, or a string that looks like a key
        return None
    extra = {name: document[name] for name in document if name not in _TEXTS}
    if all(type(value) is str for value in extra.values()):
        return extra
    return {n: v if type(v) is str else _number(v) for n, v in extra.items() if v is not None}


def _number(value: float) -> str:
    return values.attribute("attributes", Decimal(repr(value)))


def _one_by_one(items: pl.DataFrame, defaults: Defaults, whole_body: bool) -> Parsed:
    sales, refused = [], []
    for ordinal, payload in items.select("ordinal", "payload").iter_rows():
        found = _judged(payload, ordinal, defaults, whole_body)
        if isinstance(found, Refusal):
            told = replace(found, context=context(defaults))
            refused.append((ordinal, _own_bytes(payload, whole_body), told))
        else:
            sales.append({"ordinal": ordinal, **found})
    return Parsed(sales_frame(sales), refused_frame(refused))


def _own_bytes(payload: bytes, whole_body: bool) -> bytes:
    """The item as it was sent, without its frame: white space in an array, the end of a line in NDJSON."""
    return payload.strip(JSON_SPACE) if whole_body else payload.removesuffix(b"\n").removesuffix(b"\r")


def _judged(payload: bytes, ordinal: int, defaults: Defaults, whole_body: bool) -> careful.Sale | Refusal:
    try:
        return careful.json_item(payload, defaults)
    except NotJson as reason:
        if whole_body:
            raise ItemNotJson(reason, ordinal - 1) from reason
        return Refusal(f"not JSON: {reason}; send one object per line", source_system=defaults.source)
