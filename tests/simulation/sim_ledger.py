"""The ledger's books of schedules, and what the reference model says of their figures."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import polars as pl

from quality_service.ledger.books import (
    DECISIONS,
    HOP,
    LAKE,
    QUARANTINE,
    RAW,
    WAREHOUSE,
    Balance,
    Books,
    Progress,
)

LANES = 1000
"""Partitions of a schedule are moved by its lane times this, so that many share one pair of books."""

Row = dict[str, Any]
FIGURES = ("accepted", "duplicates", "quarantined", "resolved", "gold")


@dataclass
class Entries:
    """Rows for the books, and the figures that the reference model expects of them."""

    seed: int
    raw: list[Row] = field(default_factory=list)
    decisions: list[Row] = field(default_factory=list)
    quarantine: list[Row] = field(default_factory=list)
    validated: list[Row] = field(default_factory=list)
    enriched: list[Row] = field(default_factory=list)
    lake: list[Row] = field(default_factory=list)
    warehouse: list[Row] = field(default_factory=list)
    positions: dict[str, dict[int, int]] = field(default_factory=dict)
    figures: dict[str, int] = field(default_factory=dict)
    times_entered: int = 1


def audit(entries: Iterable[Entries]) -> list[tuple[int, str]]:
    """Draw one balance over many schedules; where it is wrong, one for each. Returns (seed, what is
    wrong)."""
    every = list(entries)
    if not every or not wrong(balance(every), every):
        return []
    return [(each.seed, said) for each in every if (said := wrong(balance([each]), [each]))]


def wrong(found: Balance, entries: Iterable[Entries]) -> str:
    """What the balance says that it should not; empty where it is right."""
    expected: dict[str, int] = defaultdict(int)
    for each in entries:
        for name, figure in each.figures.items():
            expected[name] += figure
    differing = [
        f"{name} is {getattr(found, name)}, not {expected[name]}"
        for name in FIGURES
        if getattr(found, name) != expected[name]
    ]
    if found.in_flight:
        differing.append(f"{found.in_flight} in flight")
    if not found.balanced:
        differing.append(f"not balanced: {found}")
    return "; ".join(differing)


def balance(entries: list[Entries]) -> Balance:
    books = Books()
    lanes = list(enumerate(entries))
    columns: dict[str, Mapping[str, type[pl.DataType]]] = {
        "raw": RAW,
        "decisions": DECISIONS,
        "quarantine": QUARANTINE,
        "validated": HOP,
        "enriched": HOP,
    }
    for name, schema in columns.items():
        rows = [_moved(row, lane) for lane, each in lanes for row in getattr(each, name)]
        frame = pl.DataFrame(rows, schema=schema)
        getattr(books, name).append(frame)
        if name == "decisions":
            for _ in range(max((each.times_entered for each in entries), default=1) - 1):
                books.decisions.append(frame)
    for lane, each in lanes:
        for partition, end in each.positions["quality"].items():
            books.decided(partition + LANES * lane, end)
    stores = [
        pl.DataFrame(
            [_moved(row, lane) for lane, each in lanes for row in getattr(each, name)], schema=schema
        )
        for name, schema in (("lake", LAKE), ("warehouse", WAREHOUSE))
    ]
    progress = Progress(
        **{
            stage: {p + LANES * lane: at for lane, each in lanes for p, at in each.positions[stage].items()}
            for stage in ("quality", "enrich", "warehouse")
        }
    )
    return books.balance(stores[0], stores[1], progress)


def _moved(row: Row, lane: int) -> Row:
    """The row in its lane: other partitions, other ids."""
    moved = dict(row)
    for name in ("partition", "origin_partition", "raw_partition"):
        if moved.get(name) is not None:
            moved[name] += LANES * lane
    for name in ("event_id", "item_id"):
        if moved.get(name) is not None:
            moved[name] = f"{lane}:{moved[name]}"
    if moved.get("id") is not None:
        moved["id"] += lane << 40
    return moved
