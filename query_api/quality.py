"""How good the sales are, and which rules they break.

score      mean quality score of the sales in the warehouse, from 0 to 1; 1 while there are none
rows       sales in the warehouse
rejected   open items of quarantine
warned     sales with a warning
byRule     sales by each rule that warned, by the day of the sale; items by the rule that refused them,
           resolved ones included, by the day they were received (theirs may not be known)
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from query_api.coalesce import SnapshotCache
from query_api.filters import Where, range_key
from query_api.postgres import Store
from query_api.types import Range, RuleCount

_FIGURES: Final = """
SELECT coalesce(avg(quality_score), 1) AS score, count(*) AS rows,
       count(*) FILTER (WHERE warnings <> '{}') AS warned,
       (SELECT count(*) FROM ops.quarantine WHERE state = 'OPEN') AS rejected
FROM warehouse.fact_sales
"""
_WARNED: Final = """
SELECT rule, 'warning' AS severity, count(*) AS count
FROM warehouse.fact_sales, unnest(warnings) AS rule WHERE <where> GROUP BY rule
"""
_REFUSED: Final = """
SELECT reason AS rule, 'error' AS severity, count(*) AS count
FROM ops.quarantine WHERE <where> GROUP BY reason
"""


@dataclass(frozen=True, slots=True)
class Figures:
    score: float
    rows: int
    rejected: int
    warned: int


class QualityAnswers:
    def __init__(self, store: Store, cache: SnapshotCache) -> None:
        self._store = store
        self._cache = cache

    async def figures(self) -> Figures:
        async def compute() -> Figures:
            row = await self._store.row(_FIGURES)
            assert row is not None, "an aggregate without GROUP BY has one row"
            return Figures(**{**dict(row.items()), "score": round(float(row["score"]), 6)})

        return await self._cache.get(("quality",), compute)

    async def by_rule(self, source: str | None, span: Range | None) -> list[RuleCount]:
        """The rule with the most first."""

        async def compute() -> list[RuleCount]:
            warned, refused = Where().range(span), _received(span)
            if source is not None:
                warned.add("source_system = {}", source)
                refused.add("source_system = {}", source)
            found = [
                *await self._store.rows(_WARNED.replace("<where>", str(warned)), *warned.args),
                *await self._store.rows(_REFUSED.replace("<where>", str(refused)), *refused.args),
            ]
            counts = [RuleCount(**dict(row.items())) for row in found]
            return sorted(counts, key=lambda each: (-each.count, each.rule))

        return await self._cache.get(("quality by rule", source, range_key(span)), compute)


def _received(span: Range | None) -> Where:
    where = Where()
    if span is not None and span.from_ is not None:
        where.add("ingest_ts >= {}::date::timestamp AT TIME ZONE 'UTC'", span.from_)
    if span is not None and span.to is not None:
        where.add("ingest_ts < {}::date::timestamp AT TIME ZONE 'UTC'", span.to)
    return where
