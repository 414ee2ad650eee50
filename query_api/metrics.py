"""Every metric of this service, declared once."""

from __future__ import annotations

import time

import numpy as np
from prometheus_client import CollectorRegistry, Counter, Histogram

from streamkit.stats import LatencyWindow, Snapshot, StageStats

_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)


class Metrics:
    """Constructed once, in bootstrap. Used from the event loop's thread only."""

    def __init__(self, stats: StageStats) -> None:
        registry: CollectorRegistry = stats.registry
        self.stats = stats
        self._window = LatencyWindow()
        # From the first byte of a request to its answer, by door: graphql or rest.
        self.request_seconds = Histogram(
            "tillstream_query_request_seconds",
            "Time to answer a request.",
            ["door"],
            buckets=_SECONDS,
            registry=registry,
        )
        # Failures that a client was told, by the code it was told.
        self.errors = Counter("tillstream_query_errors", "Errors in answers.", ["code"], registry=registry)
        # Cost of each GraphQL document that was let through.
        self.query_cost = Histogram(
            "tillstream_query_cost",
            "Cost of accepted GraphQL documents.",
            buckets=(1, 10, 100, 1_000, 10_000, 100_000),
            registry=registry,
        )
        # Statements, waiting for a connection included.
        self.postgres_seconds = Histogram(
            "tillstream_query_postgres_seconds", "Time of a statement.", buckets=_SECONDS, registry=registry
        )
        # Aggregates answered from memory because nothing was committed since, and those computed.
        self.snapshot_cache = Counter(
            "tillstream_query_snapshot_cache", "Aggregate look-ups.", ["result"], registry=registry
        )

    def answered(self, door: str, seconds: float, *, ok: bool) -> None:
        """One request is done."""
        self.request_seconds.labels(door).observe(seconds)
        self._window.add(np.array([seconds * 1000.0]), int(time.monotonic()))
        self.stats.add_in(1)
        if ok:
            self.stats.add_out(1)

    def snapshot(self) -> Snapshot:
        """The body of `/stats`: latencies are those of this API's requests of the last minute."""
        quantiles = self._window.quantiles_ms(int(time.monotonic()), 0.5, 0.99)
        body = self.stats.snapshot()
        body["p50_ms"], body["p99_ms"] = quantiles or (None, None)
        return body
