"""Working off files, one at a time, in a thread of its own.

Protocol, for each block of a file:
1. parse the block; leave out the records up to `job.rows`, which an earlier run of this process did;
2. produce the rest and wait for the broker's acknowledgement, again and again while it is down;
3. make `rows` and the counts durable.

A process that dies between 2 and 3 produces that one block again after its restart. The ids are the same, so
quality counts them as duplicates: the ledger still balances, with the repeats in `duplicates`.
"""

from __future__ import annotations

import logging
import queue
import threading
from dataclasses import replace
from typing import Final

import polars as pl

from ingest_service import csv_sales
from ingest_service.csv_sales import BadFile
from ingest_service.jobs import Job, JobStore, advanced
from ingest_service.metrics import Metrics
from ingest_service.model import Defaults, Parsed
from ingest_service.pipeline import NotReady, Pipeline
from ingest_service.records import Origin
from streamkit.ports import BrokerError

log = logging.getLogger(__name__)

_FIRST_WAIT_S: Final = 0.5
_LONGEST_WAIT_S: Final = 10.0


class Stopped(Exception):  # noqa: N818 - a request to stop, not a fault
    """The process is ending; the job goes on after its restart."""


class JobRunner:
    def __init__(self, store: JobStore, pipeline: Pipeline, metrics: Metrics, keep: int) -> None:
        self._store = store
        self._pipeline = pipeline
        self._metrics = metrics
        self._keep = keep
        self._queue: queue.SimpleQueue[Job | None] = queue.SimpleQueue()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="jobs", daemon=True)

    def start(self) -> None:
        """Unfinished jobs of an earlier run come first. Raises `InUse`."""
        self._store.lock()
        for job in self._store.recover(self._keep):
            log.info("resuming a file", extra={"job_id": job.job_id, "rows": job.rows})
            self._queue.put(job)
        self._thread.start()

    def submit(self, job: Job) -> None:
        """`job` is saved already."""
        self._queue.put(job)

    def close(self) -> None:
        """Returns after the block under way; what is left is resumed by the next run."""
        self._stop.set()
        self._queue.put(None)
        self._thread.join()
        self._store.unlock()

    def _run(self) -> None:
        while not self._stop.is_set() and (job := self._queue.get()) is not None:
            try:
                self._finish(self.work(job))
            except Stopped:
                return

    def work(self, job: Job) -> Job:
        """The job at its end: done, or failed with its reason. Raises `Stopped`."""
        origin = Origin(job.load_id, job.traceparent, "csv", ordinals_identify=True)
        try:
            with self._store.open_data(job) as stream:
                for parsed in csv_sales.parse(stream, Defaults(job.source, job.currency)):
                    job = self._block(job, _after(parsed, job.rows), origin)
            return replace(job, state="done", error=None)
        except BadFile as error:
            return replace(self._latest(job), state="failed", error=str(error))
        except Stopped:
            raise
        except Exception as error:
            # A defect of ours must not end the thread that all later files wait for.
            log.exception("a file failed", extra={"job_id": job.job_id})
            return replace(self._latest(job), state="failed", error=f"internal error: {error!r}")

    def _block(self, job: Job, parsed: Parsed, origin: Origin) -> Job:
        if self._stop.is_set():
            raise Stopped
        if len(parsed) == 0:
            return job
        self._accept(job, parsed, origin)
        last = max(int(frame["ordinal"][-1]) for frame in (parsed.sales, parsed.refused) if frame.height)
        job = advanced(job, rows=last, accepted=parsed.sales.height, quarantined=parsed.refused.height)
        self._store.save(job)
        return job

    def _accept(self, job: Job, parsed: Parsed, origin: Origin) -> None:
        wait_s = _FIRST_WAIT_S
        while True:
            try:
                self._pipeline.accept(parsed, origin)
                return
            except (BrokerError, NotReady) as error:
                log.warning("a file waits", extra={"job_id": job.job_id, "error": str(error)})
                self._store.save(replace(job, error=f"waiting: {error}"))
            if self._stop.wait(wait_s):
                raise Stopped
            wait_s = min(2 * wait_s, _LONGEST_WAIT_S)

    def _latest(self, job: Job) -> Job:
        """With the progress that was saved last: `job` may be from before the block that failed."""
        return self._store.get(job.job_id) or job

    def _finish(self, job: Job) -> None:
        self._store.finish(job)
        self._metrics.jobs.labels(job.state).inc()
        if job.state == "done":
            self._metrics.bytes.labels("csv").inc(job.bytes)
        log.info(
            "a file is finished",
            extra={
                "job_id": job.job_id,
                "load_id": job.load_id,
                "state": job.state,
                "accepted": job.accepted,
                "quarantined": job.quarantined,
                "error": job.error,
            },
        )


def _after(parsed: Parsed, rows: int) -> Parsed:
    if rows == 0:
        return parsed
    later = pl.col("ordinal") > rows
    return Parsed(parsed.sales.filter(later), parsed.refused.filter(later))
