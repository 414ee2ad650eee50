"""Choosing items by a condition and mending them by assignments: pure, over what was received."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any

import orjson
import polars as pl

from query_api.errors import BadInputError
from query_api.quarantine import expressions
from query_api.quarantine.received import COLUMNS, FIELDS, Fields, Received


@dataclass(frozen=True, slots=True)
class Order:
    """What a person asked for, checked: which items, and what to set in them."""

    where: pl.Expr
    assignments: Mapping[str, pl.Expr]


@dataclass(frozen=True, slots=True)
class Mended:
    """One item to replay. `changed`: field -> (as received, as it is sent)."""

    item_id: str
    reason: str
    attempt: int
    sale: Fields
    changed: Mapping[str, tuple[Any, Any]]

    def line(self) -> bytes:
        """As ingest's `/v1/replays/sales` takes it."""
        return orjson.dumps({"item_id": self.item_id, "attempt": self.attempt, "sale": self.sale})


def order(where: str, assignments: Mapping[str, str]) -> Order:
    """Raises `BadInputError` with what is wrong where."""
    if unknown := assignments.keys() - set(FIELDS):
        raise BadInputError(
            f"set: a sale has no field {', '.join(sorted(unknown))}; there are {', '.join(FIELDS)}"
        )
    if {"unit_price", "unit_price_micros"} <= assignments.keys():
        raise BadInputError("set: unit_price and unit_price_micros are one value; set one of them")
    values = {field: expressions.value(field, text, COLUMNS) for field, text in assignments.items()}
    return Order(expressions.condition(where, COLUMNS), values)


def mend(received: Received, asked: Order) -> list[Mended]:
    """The chosen items, mended. Raises `BadInputError` where an expression fails on a row."""
    try:
        placed = received.frame.with_row_index("place").filter(asked.where)
        values = placed.select(
            "place",
            "item_id",
            "reason",
            "attempts",
            **{f"set_{field}": value for field, value in asked.assignments.items()},
        )
    except pl.exceptions.PolarsError as error:
        raise BadInputError(f"an expression fails on a row: {str(error).splitlines()[0]}") from None
    return [
        _mended(received.sales[row["place"]], row, asked.assignments) for row in values.iter_rows(named=True)
    ]


def _mended(sale: Fields, row: Mapping[str, Any], fields: Sequence[str] | Mapping[str, Any]) -> Mended:
    sent, changed = dict(sale), {}
    for field in fields:
        value = _json(row[f"set_{field}"])
        if field.startswith("unit_price"):
            # They are two forms of one value: the other one would contradict it.
            sent.pop("unit_price_micros" if field == "unit_price" else "unit_price", None)
        before = sale.get(field)
        if value is None:
            sent.pop(field, None)
        else:
            sent[field] = value
        if before != value:
            changed[field] = (before, value)
    return Mended(row["item_id"], row["reason"], row["attempts"] + 1, sent, changed)


def _json(value: Any) -> Any:
    if isinstance(value, datetime):
        return value.isoformat(timespec="milliseconds") + "Z"
    return str(value) if isinstance(value, Decimal) else value
