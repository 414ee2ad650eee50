"""Jobs that come due, one after another on a thread.

Jobs of one lane never overlap, so two of them can share a table. A job that fails is logged and counted and
comes again after its interval; the others go on.
"""

from __future__ import annotations

import json
import logging
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from gold_writer.maintenance.metrics import MaintenanceMetrics
from streamkit.clock import Clock

_log = logging.getLogger(__name__)

_POLL_SECONDS: Final = 1.0


@dataclass(frozen=True, slots=True)
class Job:
    """`run` is called `every_s` seconds after its last end, and first `first_s` after the lane's start, or
    when it would have been due had the process not been restarted."""

    name: str
    every_s: float
    run: Callable[[], None]
    first_s: float = 0.0


class Journal:
    """When jobs last ended well, in a file, so that a restart does not repeat what is due once a day."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self._lock = threading.Lock()
        try:
            self._ends: dict[str, float] = json.loads(file.read_text(encoding="utf-8"))
        except (FileNotFoundError, ValueError):
            self._ends = {}

    def last(self, job: str) -> float | None:
        """Seconds since 1970 UTC."""
        return self._ends.get(job)

    def note(self, job: str, at: float) -> None:
        with self._lock:
            self._ends[job] = at
            partial = self._file.with_suffix(".tmp")
            partial.write_text(json.dumps(self._ends), encoding="utf-8")
            partial.replace(self._file)


class Lane:
    """A thread that runs the jobs as they come due, the one that is overdue longest first."""

    def __init__(
        self, name: str, jobs: Sequence[Job], metrics: MaintenanceMetrics, journal: Journal, clock: Clock
    ) -> None:
        self._jobs = {job.name: job for job in jobs}
        self._metrics = metrics
        self._journal = journal
        self._clock = clock
        self._failing: set[str] = set()
        self._due: dict[str, float] = {}
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    def start(self) -> None:
        now = self._now()
        for job in self._jobs.values():
            last = self._journal.last(job.name)
            self._due[job.name] = now + job.first_s if last is None else max(last + job.every_s, now)
        self._thread.start()

    def stop(self) -> None:
        self._stop.set()

    def join(self, seconds: float) -> None:
        """A run under way ends with the process where it takes longer: Delta commits whole or not at all."""
        self._thread.join(seconds)

    def failing(self) -> list[str]:
        """Jobs whose last run failed."""
        return sorted(self._failing)

    def alive(self) -> bool:
        return self._thread.is_alive()

    def run_due(self) -> float:
        """Run what is due now; seconds until the next job is."""
        while not self._stop.is_set():
            name = min(self._due, key=self._due.__getitem__)
            wait = self._due[name] - self._now()
            if wait > 0:
                return wait
            self._run_job(self._jobs[name])
        return 0.0

    def _run(self) -> None:
        while not self._stop.is_set():
            self._stop.wait(min(self.run_due(), _POLL_SECONDS))

    def _run_job(self, job: Job) -> None:
        began = self._clock.monotonic_s()
        try:
            job.run()
        except Exception:
            _log.exception("the job failed; it comes again", extra={"job": job.name, "in_s": job.every_s})
            self._metrics.runs.labels(job.name, "failed").inc()
            self._failing.add(job.name)
        else:
            self._metrics.runs.labels(job.name, "done").inc()
            self._metrics.last_success.labels(job.name).set(self._now())
            self._journal.note(job.name, self._now())
            self._failing.discard(job.name)
        self._metrics.seconds.labels(job.name).observe(self._clock.monotonic_s() - began)
        self._due[job.name] = self._now() + job.every_s

    def _now(self) -> float:
        return self._clock.now_ms() / 1000.0
