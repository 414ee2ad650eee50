"""Totals as rows of 64-bit integers, and their exact addition. Pure.

A row is (lines, units, gross micros, gross carry, returns micros, returns carry). An amount is
`carry * 10**18 + micros`; in its canonical form |micros| < 10**18 and both have the same sign, so that a
reader who knows no carry is right for every sum below a trillion pounds. One sale may have almost that much:
without a carry, ten hostile ones would wrap a sum around.
"""

from __future__ import annotations

from typing import Final

import numpy as np
import polars as pl
from numpy.typing import NDArray

from schemas.aggregates import CARRY

Rows = NDArray[np.int64]
"""Shape (n, WIDTH)."""

WIDTH: Final = 6
_AMOUNTS: Final = (2, 4)


def zeros(count: int) -> Rows:
    return np.zeros((count, WIDTH), dtype=np.int64)


def added(old: Rows, change: Rows) -> Rows:
    """The sum, row by row, in canonical form. |micros| of both may be up to 4 * 10**18."""
    total = old + change
    for at in _AMOUNTS:
        total[:, at], total[:, at + 1] = canonical(total[:, at], total[:, at + 1])
    return total


def canonical(micros: Rows, carry: Rows) -> tuple[Rows, Rows]:
    """The same amounts with |micros| < 10**18 and of one sign. |micros| may be up to 9 * 10**18 before."""
    whole = micros // CARRY  # rounds down, so what is left is 0 or more
    micros, carry = micros - whole * CARRY, carry + whole
    borrow = (carry < 0) & (micros > 0)
    return micros - borrow * CARRY, carry + borrow


def net(rows: Rows) -> tuple[Rows, Rows]:
    """Gross plus returns: (micros, carry), canonical."""
    return canonical(rows[:, 2] + rows[:, 4], rows[:, 3] + rows[:, 5])


def from_sums(windows: pl.DataFrame) -> Rows:
    """From the columns `lines`, `units`, and for gross and returns `*_micros`, `*_carry`, whose micros may be
    any remainder of 10**18."""
    names = ("lines", "units", "gross_micros", "gross_carry", "returns_micros", "returns_carry")
    rows = np.column_stack([windows[name].to_numpy() for name in names])
    return added(rows, zeros(len(rows)))


def from_records(frame: pl.DataFrame) -> Rows:
    """From the columns of SalesAggregate."""
    names = (
        *("lines", "units", "gross_revenue_micros", "gross_revenue_carry"),
        *("returns_micros", "returns_carry"),
    )
    return np.column_stack([frame[name].to_numpy() for name in names])


def to_columns(rows: Rows) -> dict[str, pl.Series]:
    """The value columns of SalesAggregate."""
    revenue, revenue_carry = net(rows)
    columns = {
        "lines": rows[:, 0],
        "units": rows[:, 1],
        "revenue_micros": revenue,
        "revenue_carry": revenue_carry,
        "gross_revenue_micros": rows[:, 2],
        "gross_revenue_carry": rows[:, 3],
        "returns_micros": rows[:, 4],
        "returns_carry": rows[:, 5],
    }
    return {name: pl.Series(name, np.ascontiguousarray(values)) for name, values in columns.items()}
