"""The only place that constructs the adapters of the aggregates process."""

from __future__ import annotations

import stamina

from gold_writer.aggregates.changelog import StateError
from gold_writer.aggregates.kafka_changelog import KafkaChangelog
from gold_writer.aggregates.metrics import WindowCount
from gold_writer.aggregates.pipeline import AggregatesPipeline
from gold_writer.aggregates.settings import AggregatesSettings
from gold_writer.aggregates.state import AggregateState
from schemas.catalogue import Topic, load_topics
from schemas.codec import Codec
from schemas.registry import RegistryClient, RegistryUnavailable
from streamkit.clock import SystemClock
from streamkit.kafka import Clients, KafkaAdmin
from streamkit.limits import Limits
from streamkit.ports import BrokerError
from streamkit.runner import Runner
from streamkit.stats import StageStats
from streamkit.telemetry import StageServer

ENRICHED, AGGREGATES = "sales.enriched.v1", "sales.aggregates.v1"


class Stage:
    """The aggregates process, ready to run."""

    def __init__(self, settings: AggregatesSettings) -> None:
        self._settings = settings
        self._clock = SystemClock()
        self._stats = StageStats(settings.service, self._clock)
        self._runner: Runner | None = None
        self._stopped = False

    def stop(self) -> None:
        self._stopped = True
        if self._runner is not None:
            self._runner.stop()

    def run(self) -> None:
        """Blocks until `stop`; raises what the stage must not go on after."""
        settings = self._settings
        with StageServer(self._stats, settings.http_host, settings.http_port):
            self._runner = self._build()
            if not self._stopped:
                self._runner.run()

    def _build(self) -> Runner:
        settings = self._settings
        _check_shards(settings)
        topics, registry = load_topics(), RegistryClient(settings.registry)
        schema_id = _register(registry, topics[AGGREGATES])
        totals = Codec(topics[AGGREGATES].schema_text, registry)
        state = AggregateState(KafkaChangelog(settings.kafka, settings.aggregates_topic, totals), self._clock)
        WindowCount(self._stats.registry, state.sizes)
        pipeline = AggregatesPipeline(
            reader=Codec(topics[ENRICHED].schema_text, registry),
            writer=totals,
            schema_id=schema_id,
            state=state,
            clock=self._clock,
            topic_out=settings.aggregates_topic,
        )
        clients = Clients(settings.kafka, settings.engine)
        return Runner(
            clients.consumer(settings.aggregates_group, settings.slot),
            clients.transactional(settings.slot),
            pipeline,
            topics=[settings.enriched_topic],
            stats=self._stats,
            clock=self._clock,
            participants=[state],
            limits=Limits(
                max_records=settings.aggregates_batch_records, linger_s=settings.aggregates_linger_s
            ),
        )


@stamina.retry(on=BrokerError, attempts=None, timeout=60.0, wait_max=2.0)
def _check_shards(settings: AggregatesSettings) -> None:
    """A shard's totals lie in the partition of its number. Waits for a broker that is just starting."""
    admin = KafkaAdmin(settings.kafka)
    try:
        shards = len(admin.partitions(settings.enriched_topic))
        places = len(admin.partitions(settings.aggregates_topic))
    finally:
        admin.close()
    if places < shards:
        raise StateError(
            f"{settings.aggregates_topic} has {places} partitions and {settings.enriched_topic} {shards}: "
            "each of the latter needs one of the former"
        )


@stamina.retry(on=RegistryUnavailable, attempts=None, timeout=60.0, wait_max=2.0)
def _register(registry: RegistryClient, topic: Topic) -> int:
    """The schema id to write with. `up` has registered it; this only asks, and waits for a registry that is
    just starting."""
    return registry.register(topic.subject, topic.schema_text)
