"""Every metric of this service, declared once."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from typing import TypedDict

import numpy as np
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from streamkit.stats import BUCKETS_S, LatencyWindow, Snapshot, StageStats

_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)


class Quantiles(TypedDict):
    """In milliseconds."""

    p50: float
    p99: float


class Metrics:
    """Constructed once, in bootstrap. Used from the event loop's thread only, but for `live`."""

    def __init__(self, stats: StageStats) -> None:
        registry: CollectorRegistry = stats.registry
        self.stats = stats
        self._window = LatencyWindow()
        self._live_window = LatencyWindow()
        self._live_lock = threading.Lock()
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
        # From acceptance by ingest to the arrival of a total here; of each batch, its earliest sale.
        self.live_seconds = Histogram(
            "tillstream_query_live_seconds",
            "Age of the earliest sale in each change of the live totals.",
            buckets=BUCKETS_S,
            registry=registry,
        )
        # Open subscriptions.
        self.subscriptions = Gauge("tillstream_query_subscriptions", "Open subscriptions.", registry=registry)
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

    def live(self, accepted_ms: Sequence[int]) -> None:
        """Totals arrived; one acceptance (ms since 1970 UTC) each. May be called on any thread."""
        if not accepted_ms:
            return
        ages_ms = np.maximum(time.time() * 1000 - np.array(accepted_ms, dtype=np.float64), 0.0)
        for age_ms in ages_ms.tolist():
            self.live_seconds.observe(age_ms / 1000)
        with self._live_lock:
            self._live_window.add(ages_ms, int(time.monotonic()))

    def heartbeats(self, accepted_ms: Sequence[int]) -> None:
        """Heartbeats arrived in the live totals; when each was accepted. May be called on any thread."""
        self.stats.observe_heartbeats(np.array(accepted_ms, dtype=np.int64))

    def live_snapshot(self) -> Quantiles | None:
        """From acceptance to the live totals here, of the last minute; None where it was quiet."""
        with self._live_lock:
            quantiles = self._live_window.quantiles_ms(int(time.monotonic()), 0.5, 0.99)
        return None if quantiles is None else Quantiles(p50=quantiles[0], p99=quantiles[1])
