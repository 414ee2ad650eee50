"""When corrections run: on a thread of the dimension builder, after histories changed, and never often."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from enrich_service.corrections.run import Correction
from streamkit.clock import Clock

_log = logging.getLogger(__name__)
_LOOK_S = 1.0


class CorrectionMetrics:
    def __init__(self, registry: CollectorRegistry) -> None:
        self.corrected = Counter(
            "tillstream_corrections", "Sales corrected to the versions that were true.", registry=registry
        )
        self.failed = Counter(
            "tillstream_correction_failures",
            "Corrections that failed and are tried again.",
            registry=registry,
        )
        self.seconds = Histogram(
            "tillstream_correction_seconds",
            "Duration of a correction, most of it reading all sales.",
            buckets=(0.1, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0, 60.0, 300.0),
            registry=registry,
        )
        # 1 while histories have changed since the last correction: an alert looks at how long it stays.
        self.due = Gauge("tillstream_correction_due", "Histories changed since.", registry=registry)


class Schedule:
    """Runs a correction at the start, and whenever `changes` tells of another change.

    A change is left to settle first, for the enricher learns of it a moment later. The time between two runs
    is at least `every_s`, and `rest` times as long as the last one took: it never takes much of a core.
    """

    def __init__(
        self,
        correction: Correction,
        changes: Callable[[], int],
        clock: Clock,
        metrics: CorrectionMetrics,
        *,
        every_s: float,
        settle_s: float,
        rest: float = 20.0,
    ) -> None:
        self._correction = correction
        self._changes = changes
        self._clock = clock
        self._metrics = metrics
        self._every_s = every_s
        self._settle_s = settle_s
        self._rest = rest
        self._stop = threading.Event()
        self._corrected_up_to = -1
        self._seen = -1
        self._changed_s = clock.monotonic_s()
        self._not_before_s = clock.monotonic_s() + settle_s

    def start(self) -> None:
        threading.Thread(target=self._run, name="corrections", daemon=True).start()

    def stop(self) -> None:
        self._stop.set()

    def look(self) -> int | None:
        """Run a correction if one is due: how many sales were corrected, or None."""
        now, changes = self._clock.monotonic_s(), self._changes()
        if changes != self._seen:
            self._seen, self._changed_s = changes, now
        self._metrics.due.set(changes != self._corrected_up_to)
        if changes == self._corrected_up_to or now < self._not_before_s:
            return None
        settled = now - self._changed_s >= self._settle_s
        if not settled and now < self._not_before_s + self._every_s:
            return None
        found = self._correction.run(self._stop.is_set)
        took = self._clock.monotonic_s() - now
        self._not_before_s = now + took + max(self._every_s, self._rest * took)
        if settled and not self._stop.is_set():
            self._corrected_up_to = changes
        self._metrics.seconds.observe(took)
        self._metrics.corrected.inc(found)
        return found

    def _run(self) -> None:
        while not self._stop.wait(_LOOK_S):
            try:
                self.look()
            except Exception:
                # Nothing is lost: what is stale is found again. The builder itself must go on.
                _log.exception("the correction failed and is tried again")
                self._metrics.failed.inc()
                self._not_before_s = self._clock.monotonic_s() + self._every_s
