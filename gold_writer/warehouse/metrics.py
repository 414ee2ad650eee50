"""Every metric of the warehouse writer beyond those that all stages have."""

from __future__ import annotations

from collections.abc import Mapping

from prometheus_client import CollectorRegistry, Counter, Histogram


class WarehouseMetrics:
    def __init__(self, registry: CollectorRegistry) -> None:
        # Rows of committed transactions, before the upsert dropped what was there: label `table`.
        self.rows = Counter(
            "tillstream_warehouse_rows", "Rows of committed transactions.", ["table"], registry=registry
        )
        # From BEGIN to the answer to COMMIT.
        self.transaction_seconds = Histogram(
            "tillstream_warehouse_transaction_seconds",
            "Duration of a committed transaction.",
            buckets=(0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0),
            registry=registry,
        )

    def committed(
        self, facts: int, quarantined: int, seconds: float, versions: Mapping[str, int] | None = None
    ) -> None:
        for table, count in (versions or {}).items():
            self.rows.labels(table).inc(count)
        self.rows.labels("fact_sales").inc(facts)
        self.rows.labels("quarantine").inc(quarantined)
        self.transaction_seconds.observe(seconds)
