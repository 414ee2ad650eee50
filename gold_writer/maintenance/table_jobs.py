"""The jobs that write tables of the lake: streams, later revisions, derived tables, calendar."""

from __future__ import annotations

import logging
from datetime import UTC, datetime
from pathlib import Path

from gold_writer.lake.tables import FACT
from gold_writer.maintenance import derived
from gold_writer.maintenance.metrics import MaintenanceMetrics
from gold_writer.maintenance.revisions import Revisions
from gold_writer.maintenance.schedule import Job
from gold_writer.maintenance.settings import MaintenanceSettings
from streamkit.clock import Clock

_log = logging.getLogger(__name__)


class TableJobs:
    """All of one lane with the upkeep of the same tables' files."""

    def __init__(self, settings: MaintenanceSettings, metrics: MaintenanceMetrics, clock: Clock) -> None:
        self._settings = settings
        self._lake: Path = settings.lake
        self._metrics = metrics
        self._clock = clock
        self._revisions = Revisions(settings.lake)

    def jobs(self) -> list[Job]:
        settings = self._settings
        return [
            Job("revisions", settings.revisions_every_s, self.revise, first_s=30),
            Job("derived", settings.derived_every_s, self.derive, first_s=90),
            Job("calendar", settings.calendar_every_s, self.calendar, first_s=10),
        ]

    def revise(self) -> None:
        if rows := self._revisions.apply():
            self._metrics.rows.labels("revisions", FACT.name).inc(rows)
            _log.info("later revisions applied", extra={"rows": rows})

    def derive(self) -> None:
        for table, rows in derived.refresh(self._lake).items():
            self._metrics.rows.labels("derived", table).inc(rows)

    def calendar(self) -> None:
        settings = self._settings
        rows = derived.refresh_dates(
            self._lake,
            datetime.fromtimestamp(self._clock.now_ms() / 1000, UTC).date(),
            fiscal_start=settings.fiscal_year_starts,
            countries=list(settings.holiday_countries),
        )
        self._metrics.rows.labels("calendar", derived.DIM_DATE).inc(rows)
