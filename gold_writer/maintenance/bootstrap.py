"""The only place that constructs what the maintenance process runs."""

from __future__ import annotations

import logging
import os
import threading
from functools import partial

from gold_writer.maintenance.lake_jobs import LakeJobs
from gold_writer.maintenance.metrics import MaintenanceMetrics
from gold_writer.maintenance.schedule import Job, Journal, Lane
from gold_writer.maintenance.settings import MaintenanceSettings
from gold_writer.maintenance.streams import DIMENSIONS, Streams
from gold_writer.maintenance.table_jobs import TableJobs
from gold_writer.maintenance.topic_reader import TopicReader
from gold_writer.maintenance.upkeep import all_tables
from gold_writer.maintenance.warehouse_jobs import WarehouseJobs
from schemas.catalogue import load_topics
from schemas.codec import Codec
from schemas.registry import RegistryClient
from streamkit.clock import SystemClock
from streamkit.kafka import KafkaAdmin
from streamkit.stats import StageStats
from streamkit.telemetry import StageServer

_log = logging.getLogger(__name__)

_WATCH_SECONDS = 1.0
_STOP_SECONDS = 5.0


def streams(settings: MaintenanceSettings, metrics: MaintenanceMetrics, lock: threading.Lock) -> Streams:
    registry = RegistryClient(settings.registry)
    catalogue = load_topics()
    return Streams(
        settings.lake,
        lambda: TopicReader(settings.kafka, settings.slot),
        lambda topics: KafkaAdmin(settings.kafka).topic_ids(topics),
        {topic: Codec(catalogue[topic].schema_text, registry) for topic in DIMENSIONS},
        metrics,
        change_prefix=settings.change_topics,
        lock=lock,
    )


class LaneEnded(Exception):  # noqa: N818 - reads as what happened
    """A lane's thread is gone: the process ends and is started again."""


class Stage:
    """The maintenance process, ready to run."""

    def __init__(self, settings: MaintenanceSettings) -> None:
        self._settings = settings
        self._clock = SystemClock()
        self.stats = StageStats(settings.service, self._clock)
        self.metrics = MaintenanceMetrics(self.stats.registry)
        self._stopping = threading.Event()
        lock = threading.Lock()
        tables = partial(all_tables, settings.lake)
        self._files = LakeJobs(settings, tables, self.metrics, self._clock, lock)
        self._tables = TableJobs(settings, self.metrics, self._clock)
        self._warehouse = WarehouseJobs(settings, self.metrics, self._clock)
        self._streams = streams(settings, self.metrics, lock)

    def lanes(self) -> dict[str, list[Job]]:
        """Lane -> its jobs. The streams have a lane of their own: a change of a dimension must not wait."""
        return {
            "lake": [*self._files.jobs(), *self._tables.jobs()],
            "warehouse": self._warehouse.jobs(),
            "streams": [Job("streams", self._settings.streams_every_s, self._streams.run)],
        }

    def run_once(self, name: str) -> None:
        """Run one job now, whatever its schedule. Raises KeyError, and what the job raises."""
        {job.name: job for jobs in self.lanes().values() for job in jobs}[name].run()

    def stop(self) -> None:
        self._stopping.set()

    def run(self) -> None:
        """Blocks until `stop`. Raises LaneEnded."""
        settings = self._settings
        os.nice(settings.maintenance_nice)
        settings.state.mkdir(parents=True, exist_ok=True)
        journal = Journal(settings.state / "runs.json")
        lanes = [Lane(name, jobs, self.metrics, journal, self._clock) for name, jobs in self.lanes().items()]
        with StageServer(self.stats, settings.http_host, settings.http_port):
            for lane in lanes:
                lane.start()
            while not self._stopping.wait(_WATCH_SECONDS):
                self._watch(lanes)
            for lane in lanes:
                lane.stop()
            for lane in lanes:
                lane.join(_STOP_SECONDS)

    def _watch(self, lanes: list[Lane]) -> None:
        if not all(lane.alive() for lane in lanes):
            raise LaneEnded("a lane of jobs ended; its log says why")
        if failing := [name for lane in lanes for name in lane.failing()]:
            self.stats.degraded(f"failed and will be tried again: {', '.join(failing)}")
        else:
            self.stats.ready()
