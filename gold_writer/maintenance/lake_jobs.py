"""The jobs that keep the lake's files in shape, each over all tables that exist."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

from deltalake import DeltaTable

from gold_writer.maintenance import files, logs
from gold_writer.maintenance.metrics import MaintenanceMetrics
from gold_writer.maintenance.replace import files as live_files
from gold_writer.maintenance.schedule import Job
from gold_writer.maintenance.settings import MaintenanceSettings
from gold_writer.maintenance.upkeep import Upkeep
from streamkit.clock import Clock

_log = logging.getLogger(__name__)

_MB: Final = 1 << 20


class SomeTablesFailed(Exception):  # noqa: N818 - reads as what happened
    """A job was done on the other tables."""


class LakeJobs:
    """`tables`: what is kept up now. One that is not there yet is left out. `lock` is held while a table is
    worked on that another job of this process writes."""

    def __init__(
        self,
        settings: MaintenanceSettings,
        tables: Callable[[], Sequence[Upkeep]],
        metrics: MaintenanceMetrics,
        clock: Clock,
        lock: AbstractContextManager[object],
    ) -> None:
        self._settings = settings
        self._tables = tables
        self._lock = lock
        self._metrics = metrics
        self._clock = clock

    def jobs(self) -> list[Job]:
        settings = self._settings
        minute = 60.0
        return [
            Job("compact", settings.compact_every_s, self.compact, first_s=minute),
            Job("clean-logs", settings.clean_logs_every_s, self.clean_logs, first_s=minute),
            Job("vacuum", settings.vacuum_every_s, self.vacuum, first_s=5 * minute),
            Job("retention", settings.retention_every_s, self.expire, first_s=10 * minute),
            Job("z-order", settings.z_order_every_s, self.z_order, first_s=15 * minute),
            Job("vacuum-orphans", settings.vacuum_orphans_every_s, self.vacuum_orphans, first_s=20 * minute),
        ]

    def compact(self) -> None:
        target, least = self._settings.compact_target_mb * _MB, self._settings.compact_min_files

        def compact(path: Path, table: Upkeep) -> None:
            self._count("compact", table, files.compact(path, table, target, least))
            live = live_files(DeltaTable(str(path)))
            self._metrics.table_files.labels(table.table).set(live.height)
            self._metrics.table_bytes.labels(table.table).set(int(live["size_bytes"].sum()))

        self._each(compact)

    def z_order(self) -> None:
        settings = self._settings

        def z_order(path: Path, table: Upkeep) -> None:
            if not table.z_order:
                return
            size = int(live_files(DeltaTable(str(path)))["size_bytes"].sum())
            if size > settings.z_order_most_mb * _MB:
                _log.warning(
                    "too large for Z-order; it is compacted only",
                    extra={"table": table.table, "mb": size // _MB, "most_mb": settings.z_order_most_mb},
                )
                return
            memory, target = settings.z_order_memory_mb * _MB, settings.z_order_target_mb * _MB
            self._count("z-order", table, files.z_order(path, table, target, memory))

        self._each(z_order)

    def vacuum(self, *, full: bool = False) -> None:
        name = "vacuum-orphans" if full else "vacuum"

        def vacuum(path: Path, table: Upkeep) -> None:
            gone = files.vacuum(path, self._settings.vacuum_after_hours, full=full)
            self._metrics.files.labels(name, table.table, "deleted").inc(gone)

        self._each(vacuum)

    def vacuum_orphans(self) -> None:
        self.vacuum(full=True)

    def clean_logs(self) -> None:
        def clean(path: Path, table: Upkeep) -> None:
            self._metrics.files.labels("clean-logs", table.table, "deleted").inc(logs.clean(path))

        self._each(clean)

    def expire(self) -> None:
        settings = self._settings
        days = {
            "bronze": settings.retention_days_bronze,
            "silver": settings.retention_days_silver,
            "gold": settings.retention_days_gold,
        }

        def expire(path: Path, table: Upkeep) -> None:
            if table.aged_by is None or not (kept := days[table.layer]):
                return
            before = datetime.fromtimestamp(self._clock.now_ms() / 1000, UTC) - timedelta(days=kept)
            gone = files.expire(path, table, before)
            self._metrics.rows.labels("retention", table.table).inc(gone)
            if gone:
                _log.info("rows expired", extra={"table": table.table, "rows": gone, "after_days": kept})

        self._each(expire)

    def _each(self, work: Callable[[Path, Upkeep], None]) -> None:
        """Every table, also after one failed; then raises SomeTablesFailed."""
        failed = []
        for table in self._tables():
            path = table.path(self._settings.lake)
            if not DeltaTable.is_deltatable(str(path)):
                continue
            try:
                with self._lock if table.owned else nullcontext():
                    work(path, table)
            except Exception:
                _log.exception("this table is left as it was", extra={"table": table.table})
                failed.append(table.table)
        if failed:
            raise SomeTablesFailed(", ".join(failed))

    def _count(self, job: str, table: Upkeep, done: files.Rewritten) -> None:
        for direction, count, size in (
            ("in", done.files_in, done.bytes_in),
            ("out", done.files_out, done.bytes_out),
        ):
            self._metrics.files.labels(job, table.table, direction).inc(count)
            self._metrics.bytes.labels(job, table.table, direction).inc(size)
        if done.files_in:
            _log.info(
                "rewritten",
                extra={"job": job, "table": table.table, "files": [done.files_in, done.files_out]},
            )
