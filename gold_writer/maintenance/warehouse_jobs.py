"""The jobs on the warehouse: partitions ahead, calendar, materialised views, the check of keys, statistics.

Each opens a connection, works and closes it. Refreshes and checks give way to the writer: they take no lock
that it needs, and end themselves after a time limit.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from datetime import UTC, date, datetime
from typing import Any, Final, TypeVar

import asyncpg

from gold_writer.maintenance.calendar import calendar
from gold_writer.maintenance.metrics import MaintenanceMetrics
from gold_writer.maintenance.schedule import Job
from gold_writer.maintenance.settings import MaintenanceSettings
from streamkit.clock import Clock

_log = logging.getLogger(__name__)
_T = TypeVar("_T")

VIEWS: Final = ("sales_by_day", "sales_by_product", "sales_by_customer")
_AHEAD_YEARS: Final = 2
_LIMITS: Final = {"statement_timeout": "600000", "lock_timeout": "10000", "timezone": "UTC"}

_STATE: Final = """
SELECT coalesce(sum(next_offset), 0)::bigint FROM ops.stream_offsets WHERE consumer = $1
"""
_BROKEN_KEYS: Final = "SELECT * FROM warehouse.broken_keys($1::text::interval)"
_FIRST_DAY: Final = "SELECT coalesce(min(full_date), $1) FROM warehouse.dim_date"
_STAGE_DAYS: Final = "CREATE TEMP TABLE days (LIKE warehouse.dim_date INCLUDING DEFAULTS) ON COMMIT DROP"


def _upsert(columns: list[str]) -> str:
    """Only rows that differ are written: the whole calendar goes through it each time."""
    pairs = ", ".join(f"{name} = excluded.{name}" for name in columns if name != "date_key")
    old, new = (", ".join(f"{side}.{name}" for name in columns) for side in ("d", "excluded"))
    names = ", ".join(columns)
    return (
        f"INSERT INTO warehouse.dim_date AS d ({names}) "  # noqa: S608 - the names of calendar.SCHEMA
        f"SELECT {names} FROM days ORDER BY date_key "
        f"ON CONFLICT (date_key) DO UPDATE SET {pairs} WHERE ({old}) IS DISTINCT FROM ({new})"
    )


class BrokenKeys(Exception):  # noqa: N818 - reads as what happened
    """Facts point at dimension rows that are not there."""


class WarehouseJobs:
    """`settings.postgres` is the warehouse."""

    def __init__(self, settings: MaintenanceSettings, metrics: MaintenanceMetrics, clock: Clock) -> None:
        self._settings = settings
        self._metrics = metrics
        self._clock = clock
        self._refreshed_at: int | None = None

    def jobs(self) -> list[Job]:
        settings = self._settings
        return [
            Job("partitions", settings.partitions_every_s, self.make_partitions, first_s=5),
            Job("warehouse-calendar", settings.calendar_every_s, self.fill_calendar, first_s=15),
            Job("refresh-views", settings.views_every_s, self.refresh_views, first_s=45),
            Job("check-keys", settings.check_keys_every_s, self.check_keys, first_s=600),
            Job("analyze", settings.analyze_every_s, self.analyze, first_s=300),
        ]

    def make_partitions(self) -> None:
        """This month's partition of the fact table and those of the months ahead: the writer makes one itself
        where it is missing, in the transaction of a batch."""
        made = self._run(
            lambda db: db.fetchval(
                "SELECT warehouse.ensure_fact_partitions($1, $2)",
                self._today(),
                self._settings.partition_months_ahead,
            )
        )
        self._metrics.rows.labels("partitions", "warehouse.fact_sales").inc(made)

    def fill_calendar(self) -> None:
        """All days from the first year of the facts to two years ahead, with fiscal periods and holidays."""
        written = self._run(self._fill_calendar)
        self._metrics.rows.labels("warehouse-calendar", "warehouse.dim_date").inc(written)

    def refresh_views(self) -> None:
        """Each by itself and CONCURRENTLY: readers see the old rows until the new ones are there."""
        state = self._run(lambda db: db.fetchval(_STATE, self._settings.warehouse_consumer))
        if state == self._refreshed_at:
            return
        for view in VIEWS:
            self._execute(f"REFRESH MATERIALIZED VIEW CONCURRENTLY warehouse.{view}")
        self._refreshed_at = state

    def check_keys(self) -> None:
        """Raises BrokenKeys, with how many facts of which key and one event id for each."""
        grace = f"{self._settings.check_keys_grace_s} seconds"
        rows = self._run(lambda db: db.fetch(_BROKEN_KEYS, grace))
        for row in rows:
            self._metrics.broken_keys.labels(row["reference"]).set(row["broken"])
        if found := [f"{r['reference']}: {r['broken']}, as {r['example']}" for r in rows if r["broken"]]:
            raise BrokenKeys("facts whose dimension row is missing: " + "; ".join(found))

    def analyze(self) -> None:
        """Statistics of the partitioned table as a whole, which autovacuum never gathers."""
        self._execute("ANALYZE warehouse.fact_sales")

    async def _fill_calendar(self, db: asyncpg.Connection) -> int:
        today, settings = self._today(), self._settings
        first: date = await db.fetchval(_FIRST_DAY, today)
        rows = calendar(
            date(min(first, today).year, 1, 1),
            date(today.year + _AHEAD_YEARS, 12, 31),
            fiscal_start=settings.fiscal_year_starts,
            countries=list(settings.holiday_countries),
        )
        async with db.transaction():
            await db.execute(_STAGE_DAYS)
            await db.copy_records_to_table("days", records=rows.rows(), columns=rows.columns)
            status: str = await db.execute(_upsert(rows.columns))
        return int(status.rsplit(" ", 1)[-1])

    def _execute(self, statement: str) -> None:
        self._run(lambda db: db.execute(statement))

    def _today(self) -> date:
        return datetime.fromtimestamp(self._clock.now_ms() / 1000, UTC).date()

    def _run(self, work: Callable[[asyncpg.Connection], Awaitable[_T]]) -> _T:
        async def connected() -> _T:
            db: Any = await asyncpg.connect(
                self._settings.postgres,
                timeout=10,
                server_settings={"application_name": "tillstream.maintenance", **_LIMITS},
            )
            try:
                return await work(db)
            finally:
                await db.close(timeout=5)

        return asyncio.run(connected())
