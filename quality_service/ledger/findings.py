"""What is wrong with the books, by name: which ids, at which stage. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import polars as pl

MISSING: Final = "missing"
DOUBLED: Final = "doubled"
UNEXPECTED: Final = "unexpected"
DIFFERING: Final = "differing"
NAMED: Final = 100
_SHOWN: Final = 3


@dataclass(frozen=True, slots=True)
class Finding:
    """`ids` are up to 100 names in ascending order: event ids, `raw PARTITION:OFFSET` of a receipt without a
    decision, or `sale_key N` of a row that nobody sent. `first` and `last` bound all `count` of them."""

    kind: str
    stage: str
    count: int
    first: str
    last: str
    ids: Sequence[str]

    def __str__(self) -> str:
        shown = ", ".join(self.ids[:_SHOWN])
        bounds = shown if self.count <= _SHOWN else f"{shown}, ... ({self.first} to {self.last})"
        return f"{self.count} {self.kind} at {self.stage}: {bounds}"


def finding(kind: str, stage: str, names: pl.Series) -> list[Finding]:
    """None where there are no names."""
    names = names.sort()
    if names.is_empty():
        return []
    return [
        Finding(kind, stage, len(names), str(names[0]), str(names[-1]), [str(n) for n in names.head(NAMED)])
    ]


def receipts(rows: pl.DataFrame) -> pl.Series:
    """Names of receipts: the event id where one is known."""
    place = pl.format("raw {}:{}", "partition", "offset")
    return rows.select(pl.coalesce("event_id", place)).to_series()


def missing(stages: Mapping[str, pl.DataFrame]) -> list[Finding]:
    """`stages`: by name, the receipts that each has passed and that are not where it should have put them."""
    return [one for stage, rows in stages.items() for one in finding(MISSING, stage, receipts(rows))]


def twice(rows: pl.DataFrame, place: Sequence[str]) -> list[Finding]:
    """Receipts with more than one final decision: an outcome that was counted twice."""
    return finding(DOUBLED, "quality", receipts(rows.filter(~pl.struct(place).is_first_distinct())))


def of_stores(stores: Mapping[str, pl.DataFrame], accepted: pl.DataFrame) -> list[Finding]:
    """Rows that a store holds twice, or that no accepted receipt accounts for, and ids with another amount in
    each. `stores`: lake and warehouse by name, with `id` and `amount_micros`; `accepted`: `id` and `event_id`
    of each accepted receipt, once."""
    found = []
    for name, rows in stores.items():
        doubled = rows.filter(pl.col("id").is_duplicated() & ~pl.col("id").is_first_distinct())
        found += finding(DOUBLED, name, _names(doubled, accepted))
        found += finding(UNEXPECTED, name, _names(rows.join(accepted, on="id", how="anti"), accepted))
    lake, warehouse = (rows.unique("id") for rows in stores.values())
    both = lake.join(warehouse, on="id", how="inner", suffix="_other")
    differing = both.filter(pl.col("amount_micros") != pl.col("amount_micros_other"))
    return found + finding(DIFFERING, "lake and warehouse", _names(differing, accepted))


def count(findings: Sequence[Finding], kind: str) -> int:
    return sum(each.count for each in findings if each.kind == kind)


def names(findings: Sequence[Finding], kind: str) -> list[str]:
    """The names of all findings of a kind, each once, up to 100."""
    found = dict.fromkeys(name for each in findings if each.kind == kind for name in each.ids)
    return list(found)[:NAMED]


def _names(rows: pl.DataFrame, accepted: pl.DataFrame) -> pl.Series:
    known = rows.select("id").join(accepted.select("id", "event_id"), on="id", how="left")
    return known.select(pl.coalesce("event_id", pl.format("sale_key {}", "id"))).to_series()
