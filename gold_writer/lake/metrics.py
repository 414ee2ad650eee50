"""Every metric of the lake writer beyond those that each process has (streamkit.stats)."""

from __future__ import annotations

from collections.abc import Callable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector

from gold_writer.lake.tables import BRONZE, FACT, QUARANTINE, SILVER
from streamkit.latency import LatencyHistogram


class LakeMetrics:
    def __init__(self, registry: CollectorRegistry) -> None:
        self.batch_seconds = Histogram(
            "tillstream_lake_batch_seconds",
            "Duration of a micro-batch that had records, commit included.",
            ["query"],
            buckets=(0.1, 0.2, 0.3, 0.5, 0.75, 1.0, 1.5, 2.0, 3.0, 5.0, 10.0, 30.0),
            registry=registry,
        )
        self.rows = Counter(
            "tillstream_lake_rows", "Rows committed to a table by this process.", ["table"], registry=registry
        )
        self.latency = LatencyHistogram(
            "tillstream_lake_latency_seconds",
            "From acceptance by ingest (bronze: Kafka's timestamp) to the commit that made a row visible.",
            "table",
            tuple(table.name for table in (FACT, SILVER, BRONZE, QUARANTINE)),
            registry,
        )
        self.behind = Gauge(
            "tillstream_lake_behind_offsets",
            "Offsets that a query had not yet taken at its last trigger; transaction markers count.",
            ["query"],
            registry=registry,
        )
        self.oldest_row_seconds = Gauge(
            "tillstream_lake_oldest_row_seconds",
            "Age of the oldest row of the last commit when it became visible.",
            ["table"],
            registry=registry,
        )


def watch_jvm(registry: CollectorRegistry, pid: Callable[[], int]) -> None:
    """CPU, memory and files of Spark's process, beside those of this one: `tillstream_lake_jvm_process_*`."""
    ProcessCollector(namespace="tillstream_lake_jvm", pid=pid, registry=registry)
