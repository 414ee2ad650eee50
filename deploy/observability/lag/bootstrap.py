"""The only place that constructs the adapters of the lag exporter."""

from __future__ import annotations

from collections.abc import Callable

from deploy.observability.lag.checkpoints import CheckpointPositions
from deploy.observability.lag.heartbeat import HeartbeatSender
from deploy.observability.lag.kafka import KafkaCluster
from deploy.observability.lag.metrics import LagMetrics
from deploy.observability.lag.model import Position
from deploy.observability.lag.pipeline import Budget, LagPipeline
from deploy.observability.lag.postgres import PostgresPositions
from deploy.observability.lag.service import LagService
from deploy.observability.lag.settings import LagSettings
from streamkit.clock import SystemClock
from streamkit.stats import StageStats
from streamkit.telemetry import StageServer


class Exporter:
    """The lag exporter, ready to run."""

    def __init__(self, settings: LagSettings) -> None:
        clock = SystemClock()
        self._settings = settings
        self._stats = StageStats(settings.service, clock)
        self._cluster = KafkaCluster(settings.kafka, settings.lag_groups, settings.lag_topics)
        self._postgres = PostgresPositions(settings.postgres)
        elsewhere: list[Callable[[], list[Position]]] = [self._postgres]
        if settings.lag_checkpoints is not None:
            elsewhere.append(CheckpointPositions(settings.lag_checkpoints))
        pipeline = LagPipeline(self._cluster, elsewhere, clock, Budget(records=settings.lag_read_records))
        self._service = LagService(
            pipeline,
            self._stats,
            clock,
            max_age_s=settings.lag_max_age,
            interval_s=settings.lag_interval,
        )
        self._stats.registry.register(LagMetrics(self._service.measured, settings.lag_cluster_name))

    def stop(self) -> None:
        self._service.stop()

    def run(self) -> None:
        """Blocks until `stop`."""
        settings, routes = self._settings, {"/lag": self._service.answer}
        try:
            with (
                StageServer(self._stats, settings.http_host, settings.http_port, routes),
                HeartbeatSender(settings.ingest_url, settings.heartbeat_seconds, self._stats.registry),
            ):
                self._service.run()
        finally:
            self._cluster.close()
            self._postgres.close()
