"""What a stage says about itself: readiness, lag, latency and record counts."""

from __future__ import annotations

import threading
from typing import Literal, TypedDict

import numpy as np
from numpy.typing import NDArray
from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    GCCollector,
    PlatformCollector,
    ProcessCollector,
)

from streamkit.clock import Clock, SystemClock
from streamkit.latency import BUCKETS_S, LatencyHistogram, LatencyWindow

__all__ = ["BUCKETS_S", "LatencyWindow", "Snapshot", "StageStats", "State"]

State = Literal["starting", "ready", "degraded"]


class Snapshot(TypedDict):
    """The body of `/stats`."""

    name: str
    state: State
    lag: int | None
    lag_seconds: float | None
    p50_ms: float | None
    p99_ms: float | None
    records_in: int
    records_out: int


class StageStats:
    """Thread-safe: the stage's thread writes, the HTTP server's threads read.

    Every instance has its own `registry`; a service registers its further metrics there.
    """

    def __init__(
        self, name: str, clock: Clock | None = None, registry: CollectorRegistry | None = None
    ) -> None:
        self.name = name
        self.registry = registry if registry is not None else _process_registry()
        self._clock = clock or SystemClock()
        self._lock = threading.Lock()
        self._state: State = "starting"
        self._reason: str | None = "starting"
        self._lag: int | None = None
        self._lag_seconds: float | None = None
        self._in = 0
        self._out = 0
        self._window = LatencyWindow()
        self._since_acceptance = LatencyHistogram(
            "tillstream_latency_seconds",
            "From acceptance by ingest (the ingest-ts header) to this stage's commit.",
            *("stage", (name,), self.registry),
        )
        self._since_written = LatencyHistogram(
            "tillstream_hop_seconds",
            "From a record's own timestamp, when the stage before wrote it, to this stage's commit.",
            *("stage", (name,), self.registry),
        )
        self._of_heartbeats = LatencyHistogram(
            "tillstream_heartbeat_seconds",
            "From acceptance of a heartbeat to this stage's commit.",
            *("stage", (name,), self.registry),
        )
        self._last_heartbeat = Gauge(
            "tillstream_heartbeat_timestamp_seconds",
            "When the newest heartbeat that this stage has committed was accepted; 0 before the first.",
            ["stage"],
            registry=self.registry,
        ).labels(name)
        records = Counter(
            "tillstream_records",
            "Records of committed batches.",
            ["stage", "direction"],
            registry=self.registry,
        )
        self._records_in = records.labels(name, "in")
        self._records_out = records.labels(name, "out")
        self._lag_gauge = Gauge(
            "tillstream_lag_records", "Records not yet read.", ["stage"], registry=self.registry
        ).labels(name)
        self._ready_gauge = Gauge(
            "tillstream_ready", "1 when ready, else 0.", ["stage"], registry=self.registry
        ).labels(name)

    def starting(self, reason: str = "starting") -> None:
        self._set_state("starting", reason)

    def ready(self) -> None:
        self._set_state("ready", None)

    def degraded(self, reason: str) -> None:
        self._set_state("degraded", reason)

    def add_in(self, count: int) -> None:
        self._records_in.inc(count)
        with self._lock:
            self._in += count

    def add_out(self, count: int) -> None:
        self._records_out.inc(count)
        with self._lock:
            self._out += count

    def set_lag(self, records: int, seconds: float | None = None) -> None:
        """`seconds`: how far the last record read lies behind the clock, 0 when nothing waits."""
        self._lag_gauge.set(records)
        with self._lock:
            self._lag, self._lag_seconds = records, seconds

    def observe_latency(self, ingest_ts_ms: NDArray[np.int64]) -> None:
        """One value per record: when ingest accepted it, in ms since 1970 UTC. Call it after the commit."""
        if len(ingest_ts_ms) == 0:
            return
        now_ms = self._clock.now_ms()
        latency_ms = _ages_ms(now_ms, ingest_ts_ms)
        self._since_acceptance.add(self.name, latency_ms / 1000.0)
        with self._lock:
            self._window.add(latency_ms, now_ms // 1000)

    def observe_hop(self, written_ms: NDArray[np.int64]) -> None:
        """One value per record: its own timestamp, in ms since 1970 UTC. Call it after the commit."""
        if len(written_ms):
            self._since_written.add(self.name, _ages_ms(self._clock.now_ms(), written_ms) / 1000.0)

    def observe_heartbeats(self, ingest_ts_ms: NDArray[np.int64]) -> None:
        """As `observe_latency`, of heartbeats only, and beside it."""
        if len(ingest_ts_ms):
            self._of_heartbeats.add(self.name, _ages_ms(self._clock.now_ms(), ingest_ts_ms) / 1000.0)
            self._last_heartbeat.set(float(ingest_ts_ms.max()) / 1000.0)

    @property
    def state(self) -> State:
        return self._state

    def readiness(self) -> tuple[bool, str | None]:
        """Whether the stage is ready and, if not, why."""
        with self._lock:
            return self._state == "ready", self._reason

    def snapshot(self) -> Snapshot:
        with self._lock:
            quantiles = self._window.quantiles_ms(self._clock.now_ms() // 1000, 0.5, 0.99)
            return Snapshot(
                name=self.name,
                state=self._state,
                lag=self._lag,
                lag_seconds=self._lag_seconds,
                p50_ms=quantiles[0] if quantiles else None,
                p99_ms=quantiles[1] if quantiles else None,
                records_in=self._in,
                records_out=self._out,
            )

    def _set_state(self, state: State, reason: str | None) -> None:
        with self._lock:
            self._state, self._reason = state, reason
        self._ready_gauge.set(1 if state == "ready" else 0)


def _ages_ms(now_ms: int, since_ms: NDArray[np.int64]) -> NDArray[np.float64]:
    """A producer's clock may run ahead of ours; a negative latency would spoil the sum."""
    return np.maximum(now_ms - since_ms, 0).astype(np.float64)


def _process_registry() -> CollectorRegistry:
    registry = CollectorRegistry()
    ProcessCollector(registry=registry)
    PlatformCollector(registry=registry)
    GCCollector(registry=registry)
    return registry
