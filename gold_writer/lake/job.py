"""Runs the queries: start, readiness, supervision, stop.

Start, once there is room on the disk: 1. the JVM comes up, and beside it everything that needs no Spark is
decided (bootstrap.plan, the guard included); 2. the session opens; 3. the warm-up runs; 4. the real queries
start; 5. each has completed its first trigger: ready.
"""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from typing import TYPE_CHECKING, Any

import numpy as np

from gold_writer.lake import bootstrap, pipeline, warmup
from gold_writer.lake.bootstrap import Planned
from gold_writer.lake.jvm import Jvm, JvmFailed, StartingJvm
from gold_writer.lake.metrics import LakeMetrics, watch_jvm
from gold_writer.lake.progress import CommitTail, QueryReports, failure
from gold_writer.lake.room import await_room
from gold_writer.lake.session import open_session
from gold_writer.lake.settings import LakeSettings
from gold_writer.lake.tables import FACT
from gold_writer.lake.topics import Topics, TopicsUnavailable
from streamkit.stats import StageStats

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

_log = logging.getLogger(__name__)

_POLL_SECONDS = 0.25
_TOPIC_CHECK_SECONDS = 15.0
_FIRST_TRIGGER_SECONDS = 300.0


class QueryFailed(Exception):  # noqa: N818
    """A query ended with an exception."""


class Running:
    """A started query with what is followed of it."""

    def __init__(self, planned: Planned, query: Any, settings: LakeSettings) -> None:
        self.name = planned.query.name
        self.table = planned.query.table
        self.source = planned.query.source
        self.spark_query = query
        self.reports = QueryReports(query)
        self.tail = CommitTail(self.table.path(settings.lake), self.table, planned.table_version)
        self.behind = 0


class LakeJob:
    """One run of the process. `stopping` is set from a signal handler or a test."""

    def __init__(self, settings: LakeSettings, stats: StageStats, stopping: threading.Event) -> None:
        self._settings = settings
        self._stats = stats
        self._metrics = LakeMetrics(stats.registry)
        self._stopping = stopping
        self._began = time.monotonic()
        self._starting: StartingJvm | None = None
        self._jvm: Jvm | None = None
        self._running: list[Running] = []
        self._last_arrival_s: float | None = None

    def run(self) -> None:
        """Until stopped. Raises guard.Refused, QueryFailed, JvmFailed and the errors of bootstrap.plan."""
        try:
            self._start()
            self._supervise()
        finally:
            self._stop()

    def record_archive(self) -> None:
        """Start as far as the warm-up, then end with a class-data archive of all that was loaded."""
        self._settings.class_archive.unlink(missing_ok=True)
        try:
            self._open(record_archive=True).stop()
            assert self._jvm is not None
            self._jvm.stop(120.0)
        finally:
            self._stop()

    def _open(self, *, record_archive: bool = False) -> SparkSession:
        await_room((self._settings.lake, self._settings.state), self._stats, self._stopping)
        self._starting = StartingJvm(bootstrap.jvm_options(self._settings, record_archive=record_archive))
        plan = self._plan = bootstrap.plan(self._settings)
        jvm = self._jvm = self._starting.ready()
        watch_jvm(self._stats.registry, lambda: jvm.pid)
        spark = open_session(self._jvm, self._settings.cores, self._settings.scratch)
        self._step("session open")
        real = [planned.query for planned in plan.queries]
        warmup.run(spark, real, plan.scratch, self._settings.kafka, self._settings.scratch / "warm-up")
        self._step("warmed up")
        return spark

    def _start(self) -> None:
        spark = self._open()
        plan = self._plan
        for planned in plan.queries:
            query = _start_query(spark, planned, self._settings)
            self._running.append(Running(planned, query, self._settings))
        deadline = time.monotonic() + _FIRST_TRIGGER_SECONDS
        while not all(running.reports.first_trigger_done() for running in self._running):
            self._check_alive()
            if self._stopping.wait(0.05):
                return
            if time.monotonic() > deadline:
                raise QueryFailed("the first triggers were not done in time")
        self._stats.ready()
        self._step("ready")

    def _supervise(self) -> None:
        topics, next_topic_check = Topics(self._settings.kafka), time.monotonic()
        while not self._stopping.wait(_POLL_SECONDS):
            self._check_alive()
            for running in self._running:
                self._follow(running)
            self._report_lag()
            if time.monotonic() > next_topic_check:
                self._check_topics(topics)
                next_topic_check = time.monotonic() + _TOPIC_CHECK_SECONDS

    def _check_alive(self) -> None:
        assert self._jvm is not None
        if self._jvm.ended() is not None:
            raise JvmFailed(f"the JVM ended with code {self._jvm.ended()}")
        for running in self._running:
            if not running.spark_query.isActive:
                raise QueryFailed(f"the query {running.name} ended: {failure(running.spark_query)}")

    def _check_topics(self, topics: Topics) -> None:
        """A topic that is made anew while we run starts at offset 0, which Spark may not notice."""
        expected = {running.source.topic: running.source.topic_id for running in self._running}
        try:
            found = topics.ids(list(expected))
        except TopicsUnavailable as error:
            _log.warning("topics not checked", extra={"reason": str(error)})
            return
        if found != expected:
            raise QueryFailed(f"a topic was made anew: expected {expected}, found {found}")

    def _follow(self, running: Running) -> None:
        for batch in running.reports.new():
            running.behind = batch.behind
            self._metrics.behind.labels(running.name).set(batch.behind)
            if batch.rows:
                self._metrics.batch_seconds.labels(running.name).observe(batch.seconds)
                self._stats.add_in(batch.rows)
            if batch.heartbeat_ms is not None and running.table is FACT:
                self._stats.observe_heartbeats(np.array([batch.heartbeat_ms + _age_ms(batch.ended_ms)]))
        for commit in running.tail.new():
            self._stats.add_out(commit.rows)
            self._metrics.rows.labels(running.table.name).inc(commit.rows)
            age = max(commit.visible_ms - commit.earliest_ms, 0) / 1000.0
            self._metrics.oldest_row_seconds.labels(running.table.name).set(age)
            waited_ms = commit.visible_ms - commit.arrivals_ms()
            self._metrics.latency.add(running.table.name, np.maximum(waited_ms, 0) / 1000.0)
            if running.table is FACT:
                self._last_arrival_s = commit.latest_ms / 1000.0
                # Latency as of the commit, not as of this poll.
                self._stats.observe_latency(commit.arrivals_ms() + _age_ms(commit.visible_ms))

    def _report_lag(self) -> None:
        behind = sum(running.behind for running in self._running)
        late = (time.time() - self._last_arrival_s) if self._last_arrival_s else None
        self._stats.set_lag(behind, late if behind else 0.0)

    def _stop(self) -> None:
        deadline = time.monotonic() + self._settings.stop_seconds
        if self._jvm is not None and self._jvm.ended() is None:
            with contextlib.suppress(Exception):
                _stop_queries(self._running, deadline)
            self._jvm.stop(max(deadline - time.monotonic(), 1.0))
        elif self._starting is not None:
            self._starting.kill()

    def _step(self, what: str) -> None:
        _log.info(what, extra={"seconds_since_start": round(time.monotonic() - self._began, 2)})


def _age_ms(at_ms: int) -> int:
    return time.time_ns() // 1_000_000 - at_ms


def _start_query(spark: SparkSession, planned: Planned, settings: LakeSettings) -> Any:
    query = planned.query
    start = pipeline.starting_offsets(query.source.topic, planned.offsets)
    options = pipeline.kafka_options(query, settings.kafka, settings.max_offsets_per_trigger, start)
    return (
        query.rows(pipeline.read(spark, options))
        .writeStream.format(pipeline.SINK)
        .outputMode("append")
        .queryName(query.name)
        .option("checkpointLocation", str(planned.checkpoint))
        .trigger(processingTime=f"{query.trigger_ms} milliseconds")
        .start(str(query.table.path(settings.lake)))
    )


def _stop_queries(running: list[Running], deadline: float) -> None:
    """Between two micro-batches where possible: one that is interrupted is run again at the next start."""
    pending = [r.spark_query for r in running]
    while pending and time.monotonic() < deadline - 4.0:
        for query in [q for q in pending if not q.status["isTriggerActive"]]:
            query.stop()
            pending.remove(query)
        time.sleep(0.02)
    for query in pending:
        query.stop()
