"""The quality of the warehouse's sales, measured again and again: `ops.data_quality_metrics` and Prometheus.

Each check is the share of rows that are as they should be, in percent. At or above its threshold it is PASS,
up to five points below it WARNING, else FAIL.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import ROUND_HALF_EVEN, Decimal
from typing import Any, Final

import asyncpg
from prometheus_client import CollectorRegistry, Gauge

log = logging.getLogger(__name__)

FACT: Final = "warehouse.fact_sales"
_MARGIN: Final = 5
_HUNDREDTH: Final = Decimal("0.01")
_PASSING: Final = (OSError, asyncpg.PostgresError, asyncpg.InterfaceError)


@dataclass(frozen=True, slots=True)
class Check:
    """`good`: SQL over a row of the facts, true where it is as it should be."""

    dimension: str
    column: str | None
    good: str
    threshold: int


CHECKS: Final = (
    Check("completeness", "customer_id", "customer_id IS NOT NULL", 60),
    Check("completeness", "description", "description IS NOT NULL", 95),
    Check("completeness", "country", "country IS NOT NULL", 95),
    Check("validity", "country_code", "country_code IS NOT NULL", 90),
    Check("validity", "stock_code", "is_product", 95),
    Check("accuracy", "unit_price", "unit_price > 0", 95),
    Check("accuracy", "amount_gbp", "amount_gbp IS NOT NULL", 99),
    Check("consistency", "total_amount", "total_amount = quantity * unit_price", 100),
    Check("consistency", "quantity", "(quantity < 0) <= is_return", 100),
    Check("timeliness", "loaded_at", "loaded_at - ingest_ts < interval '5 seconds'", 90),
)

_COUNTS: Final = ", ".join(f"count(*) FILTER (WHERE {check.good}) AS c{i}" for i, check in enumerate(CHECKS))
_MEASURE: Final = (
    "SELECT count(*) AS rows, avg(quality_score) AS score, <counts> FROM warehouse.fact_sales".replace(
        "<counts>", _COUNTS
    )
)
_IDS: Final = "SELECT count(DISTINCT event_id) FROM warehouse.fact_sales"
_REFUSED: Final = "SELECT count(*) FROM ops.quarantine WHERE state = 'OPEN'"
# Moves with every row that is written or removed: what stands still need not be measured again.
_CHANGES: Final = """
SELECT coalesce(sum(n_tup_ins + n_tup_upd + n_tup_del), 0) FROM pg_stat_user_tables
WHERE schemaname = 'warehouse' AND relname LIKE 'fact_sales%' OR relname = 'quarantine'
"""
_INSERT: Final = """
INSERT INTO ops.data_quality_metrics
    (table_name, column_name, metric_type, metric_value, threshold_value, status, check_details)
VALUES ($1, $2, $3, $4, $5, $6, $7)
"""
_FORGET: Final = (
    "DELETE FROM ops.data_quality_metrics WHERE check_timestamp < clock_timestamp() - interval '90 days'"
)


@dataclass(frozen=True, slots=True)
class Metric:
    """One row of `ops.data_quality_metrics`; `value` in percent."""

    column: str | None
    dimension: str
    value: Decimal
    threshold: Decimal
    details: Mapping[str, Any]

    @property
    def status(self) -> str:
        if self.value >= self.threshold:
            return "PASS"
        return "WARNING" if self.value >= self.threshold - _MARGIN else "FAIL"


def metric(column: str | None, dimension: str, good: int, rows: int, threshold: int) -> Metric:
    """The share of `good` among `rows`; of no rows, all are good."""
    share = Decimal(100) if rows == 0 else Decimal(100 * good) / rows
    # Rounded down: what is not whole must not read 100.00.
    value = share.quantize(_HUNDREDTH, rounding=ROUND_HALF_EVEN)
    if good < rows and value == 100:
        value -= _HUNDREDTH
    return Metric(column, dimension, value, Decimal(threshold), {"good": good, "rows": rows})


class Scores:
    """Measures every `every_s` seconds while something changes."""

    def __init__(self, pool: asyncpg.Pool, registry: CollectorRegistry, every_s: float) -> None:
        self._pool = pool
        self._every_s = every_s
        self._seen: int | None = None
        # By the worst check of each dimension; `overall` is the mean score of the rows.
        self._score = Gauge(
            "data_quality_score", "Quality from 0 to 1.", ["table", "dimension"], registry=registry
        )

    async def run(self) -> None:
        """Until it is cancelled."""
        while True:
            try:
                await self.measure()
            except _PASSING as error:
                log.warning("quality was not measured", extra={"reason": str(error)})
            await asyncio.sleep(self._every_s)

    async def measure(self) -> list[Metric]:
        """What was written; nothing where no row changed since the last time."""
        async with self._pool.acquire() as db:
            changes = int(await db.fetchval(_CHANGES))
            if changes == self._seen:
                return []
            async with db.transaction(isolation="repeatable_read"):
                found = await self._measured(db)
                await db.executemany(_INSERT, [_row(each) for each in found])
                await db.execute(_FORGET)
        self._seen = changes
        for dimension in {each.dimension for each in found}:
            worst = min(each.value for each in found if each.dimension == dimension)
            self._score.labels(FACT, dimension).set(float(worst) / 100)
        return found

    async def _measured(self, db: Any) -> list[Metric]:
        facts = await db.fetchrow(_MEASURE)
        rows, distinct, refused = facts["rows"], await db.fetchval(_IDS), await db.fetchval(_REFUSED)
        found = [
            metric(check.column, check.dimension, facts[f"c{i}"], rows, check.threshold)
            for i, check in enumerate(CHECKS)
        ]
        found.append(metric("event_id", "uniqueness", distinct, rows, 100))
        found.append(metric(None, "conformity", rows, rows + refused, 95))
        if facts["score"] is not None:
            score = Decimal(100 * facts["score"]).quantize(_HUNDREDTH)
            found.append(Metric("quality_score", "overall", score, Decimal(80), {"rows": rows}))
        return found


def _row(each: Metric) -> tuple[Any, ...]:
    details = json.dumps(dict(each.details))
    return FACT, each.column, each.dimension, each.value, each.threshold, each.status, details
