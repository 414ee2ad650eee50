"""Measures when asked, and now and then by itself."""

from __future__ import annotations

import json
import logging
import threading
from collections.abc import Callable

from prometheus_client import Counter

from deploy.observability.lag.model import Snapshot
from deploy.observability.lag.pipeline import LagPipeline
from streamkit.clock import Clock
from streamkit.ports import BrokerError
from streamkit.stats import StageStats

log = logging.getLogger(__name__)


class LagService:
    """Thread-safe: whoever asks while a measurement is under way waits for it and shares it."""

    def __init__(
        self, pipeline: LagPipeline, stats: StageStats, clock: Clock, *, max_age_s: float, interval_s: float
    ) -> None:
        self._pipeline = pipeline
        self._stats = stats
        self._clock = clock
        self._max_age_s = max_age_s
        self._interval_s = interval_s
        self._lock = threading.Lock()
        self._snapshot: Snapshot | None = None
        self._until_s = 0.0
        self._stop = threading.Event()
        self._failures = Counter(
            "tillstream_lag_failures", "Measurements of lag that failed.", registry=stats.registry
        )

    def stop(self) -> None:
        self._stop.set()

    def run(self, every_round: Callable[[], None] = lambda: None) -> None:
        """Until `stop`. `every_round` is called after each measurement."""
        while not self._stop.is_set():
            self.measured()
            every_round()
            self._stop.wait(self._interval_s)

    def measured(self) -> Snapshot | None:
        """At most `max_age_s` old; None while Kafka cannot be asked."""
        with self._lock:
            if self._clock.monotonic_s() >= self._until_s:
                self._measure()
                self._until_s = self._clock.monotonic_s() + self._max_age_s
            return self._snapshot

    def answer(self) -> tuple[int, str, bytes]:
        """`GET /lag`."""
        snapshot = self.measured()
        if snapshot is None:
            _, reason = self._stats.readiness()
            return 503, "application/json", json.dumps({"error": reason}).encode()
        return 200, "application/json", json.dumps(snapshot.to_json()).encode()

    def _measure(self) -> None:
        try:
            self._snapshot = self._pipeline.measure()
        except BrokerError as error:
            self._snapshot = None
            self._failures.inc()
            log.warning("lag not measured", extra={"error": str(error)})
            self._stats.degraded(f"Kafka: {error}")
            return
        self._stats.ready()
