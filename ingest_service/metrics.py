"""Every metric of this service, declared once; `streamkit.stats` adds those that all stages share."""

from __future__ import annotations

from typing import Final

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

_SECONDS: Final = (0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 15.0)


class Metrics:
    def __init__(self, registry: CollectorRegistry) -> None:
        self.items: Final = Counter(
            "tillstream_ingest_items",
            "Items that the broker acknowledged.",
            ["door", "outcome"],
            registry=registry,
        )
        """`door`: json or csv. `outcome`: accepted or quarantined."""
        self.bytes: Final = Counter(
            "tillstream_ingest_bytes", "Bytes of bodies and files received.", ["door"], registry=registry
        )
        self.refused: Final = Counter(
            "tillstream_ingest_refused_requests",
            "Requests answered with an error of this service's own.",
            ["status"],
            registry=registry,
        )
        self.step: Final = Histogram(
            "tillstream_ingest_step_seconds",
            "Time of one step of the pipeline, per request or block of a file.",
            ["step"],
            buckets=_SECONDS,
            registry=registry,
        )
        """`step`: parse, identify, encode or produce."""
        self.in_flight: Final = Gauge(
            "tillstream_ingest_in_flight_bytes", "Bytes of request bodies held now.", registry=registry
        )
        self.limiter_failures: Final = Counter(
            "tillstream_ingest_rate_limiter_failures",
            "Requests let through uncounted because Redis did not answer.",
            registry=registry,
        )
        self.jobs: Final = Counter("tillstream_ingest_jobs", "Files finished.", ["state"], registry=registry)
        """`state`: done or failed."""
