"""Every metric of the maintenance process beyond those that each process has (streamkit.stats)."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram


class MaintenanceMetrics:
    def __init__(self, registry: CollectorRegistry) -> None:
        self.runs = Counter(
            "tillstream_maintenance_runs",
            "Runs of a job by outcome: done, failed.",
            ["job", "outcome"],
            registry=registry,
        )
        self.seconds = Histogram(
            "tillstream_maintenance_seconds",
            "Duration of a run.",
            ["job"],
            buckets=(0.01, 0.05, 0.1, 0.5, 1.0, 5.0, 30.0, 120.0, 600.0, 3600.0),
            registry=registry,
        )
        self.last_success = Gauge(
            "tillstream_maintenance_last_success_timestamp_seconds",
            "When a job last ended well, in seconds since 1970 UTC.",
            ["job"],
            registry=registry,
        )
        self.files = Counter(
            "tillstream_maintenance_files",
            "Files of a table that a job took in, wrote, or deleted (direction: in, out, deleted).",
            ["job", "table", "direction"],
            registry=registry,
        )
        self.bytes = Counter(
            "tillstream_maintenance_bytes",
            "Bytes of a table that a job took in and wrote.",
            ["job", "table", "direction"],
            registry=registry,
        )
        self.rows = Counter(
            "tillstream_maintenance_rows",
            "Rows of a table that a job wrote, changed or removed.",
            ["job", "table"],
            registry=registry,
        )
        self.broken_keys = Gauge(
            "tillstream_warehouse_broken_keys",
            "Facts whose dimension row is missing, by key, at the last check.",
            ["reference"],
            registry=registry,
        )
        self.table_files = Gauge(
            "tillstream_lake_files",
            "Live files of a table, after the last look at it.",
            ["table"],
            registry=registry,
        )
        self.table_bytes = Gauge(
            "tillstream_lake_bytes",
            "Bytes of a table's live files, after the last look at it.",
            ["table"],
            registry=registry,
        )
