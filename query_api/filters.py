"""Building the WHERE of a statement with numbered parameters. Pure."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from query_api.types import Range, SaleFilter
from query_api.values import date_key


class Where:
    """Collects conditions; only those that are given reach the statement, so that the planner sees a
    plain one. `where.add("country = {}", name)` numbers the parameter."""

    def __init__(self) -> None:
        self._conditions: list[str] = []
        self.args: list[Any] = []

    def add(self, condition: str, *values: Any) -> Where:
        """`condition` is program text with one `{}` per value; values never become program text."""
        self._conditions.append(condition.format(*(self.param(value) for value in values)))
        return self

    def param(self, value: Any) -> str:
        """Adds a parameter that stands elsewhere in the statement, such as its LIMIT."""
        self.args.append(value)
        return f"${len(self.args)}"

    def range(self, span: Range | None) -> Where:
        """By date_key, which is the day of invoice_ts in UTC and what the table is partitioned by."""
        if span is not None and span.from_ is not None:
            self.add("date_key >= {}", date_key(span.from_))
        if span is not None and span.to is not None:
            self.add("date_key < {}", date_key(span.to))
        return self

    def country(self, name: str | None) -> Where:
        return self if name is None else self.add("country = {}", name)

    def as_of(self, at: datetime | None) -> Where:
        return self if at is None else self.add("recorded_at <= {}", at)

    def sales(self, wanted: SaleFilter | None) -> Where:
        if wanted is None:
            return self
        self.range(wanted.range).country(wanted.country)
        if wanted.stock_code is not None:
            self.add("stock_code = {}", wanted.stock_code)
        if wanted.customer_id is not None:
            self.add("customer_id = {}", wanted.customer_id)
        if wanted.invoice_no is not None:
            self.add("invoice_no = {}", wanted.invoice_no)
        if wanted.is_return is not None:
            self.add("is_return = {}", wanted.is_return)
        return self

    def __str__(self) -> str:
        return " AND ".join(self._conditions) if self._conditions else "true"


def range_key(span: Range | None) -> tuple[Any, ...]:
    """A range as part of a cache key."""
    return (None, None) if span is None else (span.from_, span.to)


def filter_key(wanted: SaleFilter | None) -> tuple[Any, ...]:
    """A filter as part of a cache key."""
    if wanted is None:
        return ()
    return (
        *range_key(wanted.range),
        wanted.country,
        wanted.stock_code,
        wanted.customer_id,
        wanted.invoice_no,
        wanted.is_return,
    )
