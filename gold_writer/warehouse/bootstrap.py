"""The only place that constructs the adapters of the warehouse writer."""

from __future__ import annotations

from gold_writer.warehouse.dimensions import TABLES
from gold_writer.warehouse.metrics import WarehouseMetrics
from gold_writer.warehouse.pipeline import ENRICHED, QUARANTINED, WarehousePipeline
from gold_writer.warehouse.settings import WarehouseSettings
from gold_writer.warehouse.sink import WarehouseSink
from gold_writer.warehouse.store import PostgresStore
from schemas.catalogue import load_topics
from schemas.codec import Codec
from schemas.registry import RegistryClient
from streamkit.clock import SystemClock
from streamkit.kafka import Clients, KafkaAdmin
from streamkit.limits import Limits
from streamkit.sink_runner import SinkRunner
from streamkit.stats import StageStats
from streamkit.telemetry import StageServer

CONSUMER = "tillstream.warehouse"
"""Consumer group, and this consumer's name in `ops.stream_offsets`."""


class Stage:
    """The warehouse writer, ready to run."""

    def __init__(self, settings: WarehouseSettings) -> None:
        self._settings = settings
        clock = SystemClock()
        self._stats = StageStats(settings.service, clock)
        registry = RegistryClient(settings.registry)
        topics = load_topics()
        pipeline = WarehousePipeline(
            sales=Codec(topics[ENRICHED].schema_text, registry),
            quarantine=Codec(topics[QUARANTINED].schema_text, registry),
            dimensions={
                table.dimension.topic: (table, Codec(topics[table.dimension.topic].schema_text, registry))
                for table in TABLES
            },
        )
        self._admin = KafkaAdmin(settings.kafka)
        self._sink = WarehouseSink(
            PostgresStore(settings.postgres, CONSUMER),
            pipeline,
            self._admin.topic_ids,
            metrics=WarehouseMetrics(self._stats.registry),
            clock=clock,
        )
        self._runner = SinkRunner(
            Clients(settings.kafka, settings.engine).consumer(CONSUMER, settings.slot),
            self._sink,
            topics=[ENRICHED, QUARANTINED, *(table.dimension.topic for table in TABLES)],
            stats=self._stats,
            clock=clock,
            limits=Limits(max_records=settings.warehouse_batch_rows),
        )

    def stop(self) -> None:
        self._runner.stop()

    def run(self) -> None:
        """Blocks until `stop`; raises what the stage must not go on after."""
        settings = self._settings
        with StageServer(self._stats, settings.http_host, settings.http_port):
            try:
                self._runner.run()
            finally:
                self._sink.close()
                self._admin.close()
