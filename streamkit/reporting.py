"""Lag, latency and counts of a stage, told to its `StageStats`."""

from __future__ import annotations

import logging
from collections.abc import Sequence

from streamkit.clock import Clock
from streamkit.headers import ingest_ts_ms
from streamkit.heartbeat import heartbeats
from streamkit.ports import BrokerError, Consumer, RecordBatch
from streamkit.stats import StageStats

log = logging.getLogger(__name__)


class Reporter:
    def __init__(self, consumer: Consumer, stats: StageStats, clock: Clock, every_s: float) -> None:
        self._consumer = consumer
        self._stats = stats
        self._clock = clock
        self._every_s = every_s
        self._due_s = 0.0
        self._newest_ms: int | None = None

    def committed(self, batches: Sequence[RecordBatch], records_out: int) -> None:
        for batch in batches:
            self._stats.add_in(len(batch))
            accepted_ms = ingest_ts_ms(batch)
            self._stats.observe_latency(accepted_ms)
            self._stats.observe_hop(batch.timestamp_ms)
            self._stats.observe_heartbeats(accepted_ms[heartbeats(batch)])
            self._newest_ms = int(batch.timestamp_ms.max())
        self._stats.add_out(records_out)

    def report_if_due(self) -> None:
        now_s = self._clock.monotonic_s()
        if now_s < self._due_s:
            return
        self._due_s = now_s + self._every_s
        try:
            lag = sum(self._consumer.lag().values())
        except BrokerError as error:
            log.warning("lag unknown", extra={"error": str(error)})
            return
        self._stats.set_lag(lag, self._seconds_behind(lag))

    def _seconds_behind(self, lag: int) -> float | None:
        """How old the last record read is, while others wait."""
        if lag == 0:
            return 0.0
        if self._newest_ms is None:
            return None
        return max(self._clock.now_ms() - self._newest_ms, 0) / 1000.0
