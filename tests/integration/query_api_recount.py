"""A plain recount of lines: what INTERFACES defines, in the plainest Python. The oracle of the figures."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Hashable, Iterable, Sequence
from datetime import date, datetime
from decimal import ROUND_HALF_EVEN, Decimal, getcontext
from typing import Any, TypeVar

from tests.integration.query_api_facts import Line

K = TypeVar("K", bound=Hashable)

ZERO = Decimal(0)


def kpis(lines: Sequence[Line]) -> dict[str, Any]:
    getcontext().prec = 60
    gross = total(line for line in lines if not line.is_return)
    orders = len(invoices(lines))
    value = None
    if orders:
        value = (gross / orders).quantize(Decimal("0.000001"), ROUND_HALF_EVEN)
    return {
        "revenue": total(lines),
        "grossRevenue": gross,
        "returns": total(line for line in lines if line.is_return),
        "orders": orders,
        "lines": len(lines),
        "units": sum(line.quantity for line in lines),
        "customers": len({line.customer for line in lines if line.customer is not None}),
        "averageOrderValue": value,
    }


def total(lines: Iterable[Line]) -> Decimal:
    return sum((line.gbp for line in lines if line.gbp is not None), start=ZERO)


def invoices(lines: Iterable[Line]) -> set[tuple[str, str]]:
    """Those that are no cancellation."""
    return {(line.source, line.invoice) for line in lines if not line.is_return}


def between(lines: Iterable[Line], first: date | None, last: date | None) -> list[Line]:
    """`last` is exclusive."""
    return [
        line
        for line in lines
        if (first is None or line.at.date() >= first) and (last is None or line.at.date() < last)
    ]


def grouped(lines: Iterable[Line], key: Callable[[Line], K]) -> dict[K, list[Line]]:
    groups: dict[K, list[Line]] = defaultdict(list)
    for line in lines:
        groups[key(line)].append(line)
    return groups


def bucket(at: datetime, grain: str) -> datetime:
    start = at.replace(second=0, microsecond=0)
    if grain != "MINUTE":
        start = start.replace(minute=0)
    if grain not in ("MINUTE", "HOUR"):
        start = start.replace(hour=0)
    if grain in ("MONTH", "YEAR"):
        start = start.replace(day=1)
    return start.replace(month=1) if grain == "YEAR" else start


def series(lines: Iterable[Line], grain: str) -> list[tuple[datetime, Decimal, int, int]]:
    groups = grouped(lines, lambda line: bucket(line.at, grain))
    return [(at, total(g), len(invoices(g)), len(g)) for at, g in sorted(groups.items())]


def countries(lines: Iterable[Line]) -> list[tuple[str | None, Decimal, int, int]]:
    groups = grouped(lines, lambda line: line.country)
    rows = [(name, total(g), len(invoices(g)), len(g)) for name, g in groups.items()]
    return sorted(rows, key=lambda row: (-row[1], row[0] is None, row[0] or ""))


def products(lines: Iterable[Line], by: str, every: bool) -> list[tuple[str, str | None, Decimal, int, int]]:
    rows = []
    for code, group in grouped(lines, lambda line: line.stock_code).items():
        if not every and not group[0].is_product:
            continue
        names = Counter(line.description for line in group if line.description is not None)
        name = min(names, key=lambda text: (-names[text], text)) if names else None
        rows.append((code, name, total(group), sum(line.quantity for line in group), len(group)))
    return sorted(rows, key=lambda row: (-(row[2] if by == "REVENUE" else row[3]), row[0]))
