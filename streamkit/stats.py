"""What a stage says about itself: readiness, lag, latency and record counts."""

from __future__ import annotations

import threading
from collections.abc import Iterator
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
from prometheus_client.core import HistogramMetricFamily
from prometheus_client.registry import Collector

from streamkit.clock import Clock, SystemClock

State = Literal["starting", "ready", "degraded"]

BUCKETS_S = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.0, 3.0, 5.0, 10.0, 30.0, 60.0, 300.0, 3600.0)

_WINDOW_S = 60
# Logarithmic bins from 0.1 ms to about 4 months, 2 % wide: a quantile is off by 1 % at most, in fixed memory
# at any rate of records.
_BIN_BASE_MS = 0.1
_BIN_LOG = np.log(1.02)
_BINS = 1275


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


class LatencyWindow:
    """Latencies of the last minute, one row of bins per second. Not thread-safe."""

    def __init__(self) -> None:
        self._bins = np.zeros((_WINDOW_S, _BINS), dtype=np.int64)
        self._second_of_row = np.full(_WINDOW_S, -1, dtype=np.int64)

    def add(self, latency_ms: NDArray[np.float64], second: int) -> None:
        row = second % _WINDOW_S
        if self._second_of_row[row] != second:
            self._bins[row] = 0
            self._second_of_row[row] = second
        index = np.log(np.maximum(latency_ms, _BIN_BASE_MS) / _BIN_BASE_MS) / _BIN_LOG
        self._bins[row] += np.bincount(np.minimum(index.astype(np.int64), _BINS - 1), minlength=_BINS)

    def quantiles_ms(self, second: int, *quantiles: float) -> list[float] | None:
        """One value per quantile, or None where the last minute is empty."""
        cumulative = self._bins[self._second_of_row > second - _WINDOW_S].sum(axis=0).cumsum()
        if len(cumulative) == 0 or cumulative[-1] == 0:
            return None
        # Nearest-rank: the bin that holds the ceil(q * n)-th smallest.
        ranks = np.maximum(np.ceil(np.asarray(quantiles) * cumulative[-1]), 1)
        bins = np.searchsorted(cumulative, ranks)
        return [round(float(_BIN_BASE_MS * np.exp((b + 0.5) * _BIN_LOG)), 3) for b in bins]


class _LatencyHistogram(Collector):
    """`tillstream_latency_seconds{stage}` filled by array: `Histogram.observe` costs a microsecond each."""

    def __init__(self, stage: str) -> None:
        self._stage = stage
        self._lock = threading.Lock()
        self._counts = np.zeros(len(BUCKETS_S) + 1, dtype=np.int64)
        self._sum_s = 0.0

    def add(self, latency_s: NDArray[np.float64]) -> None:
        index = np.searchsorted(BUCKETS_S, latency_s, side="left")
        with self._lock:
            self._counts += np.bincount(index, minlength=len(self._counts))
            self._sum_s += float(latency_s.sum())

    def collect(self) -> Iterator[HistogramMetricFamily]:
        with self._lock:
            cumulative, total = self._counts.cumsum(), self._sum_s
        family = HistogramMetricFamily(
            "tillstream_latency_seconds",
            "From acceptance by ingest (the ingest-ts header) to this stage's commit.",
            labels=["stage"],
        )
        bounds = [*(str(b) for b in BUCKETS_S), "+Inf"]
        family.add_metric(
            [self._stage], [(b, float(c)) for b, c in zip(bounds, cumulative, strict=True)], sum_value=total
        )
        yield family


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
        self._histogram = _LatencyHistogram(name)
        self.registry.register(self._histogram)
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
        # A producer's clock may run ahead of ours; a negative latency would spoil the sum.
        latency_ms = np.maximum(now_ms - ingest_ts_ms, 0).astype(np.float64)
        self._histogram.add(latency_ms / 1000.0)
        with self._lock:
            self._window.add(latency_ms, now_ms // 1000)

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


def _process_registry() -> CollectorRegistry:
    registry = CollectorRegistry()
    ProcessCollector(registry=registry)
    PlatformCollector(registry=registry)
    GCCollector(registry=registry)
    return registry
