"""The only place that constructs the adapters of enrich."""

from __future__ import annotations

import stamina

from enrich_service.countries import CountryTable
from enrich_service.known import KnownDimensions
from enrich_service.metrics import EnrichMetrics
from enrich_service.pipeline import TOPIC_IN, TOPIC_OUT, EnrichPipeline
from enrich_service.reference import load_rates
from enrich_service.settings import EnrichSettings
from schemas.catalogue import Topic, load_topics
from schemas.codec import Codec
from schemas.dimensions import CUSTOMERS, PRODUCTS
from schemas.reference import countries
from schemas.registry import RegistryClient, RegistryUnavailable
from streamkit.clock import SystemClock
from streamkit.kafka import Clients, KafkaFollower
from streamkit.limits import Limits
from streamkit.runner import Runner
from streamkit.stats import StageStats
from streamkit.telemetry import StageServer

GROUP = "tillstream.enrich"


class Stage:
    """Enrich, ready to run."""

    def __init__(self, settings: EnrichSettings) -> None:
        self._settings = settings
        self._stats = StageStats(settings.service, SystemClock())
        self._runner: Runner | None = None
        self._dimensions: KnownDimensions | None = None
        self._stopped = False

    def stop(self) -> None:
        self._stopped = True
        if self._dimensions is not None:
            self._dimensions.stop()
        if self._runner is not None:
            self._runner.stop()

    def run(self) -> None:
        """Blocks until `stop`; raises what the stage must not go on after."""
        settings = self._settings
        with StageServer(self._stats, settings.http_host, settings.http_port):
            registry = RegistryClient(self._settings.registry)
            self._dimensions = dimensions = self._known(registry)
            try:
                dimensions.start()
                self._runner = self._build(registry, dimensions)
                if not self._stopped:
                    self._runner.run()
                dimensions.check()
            finally:
                dimensions.stop()

    def _known(self, registry: RegistryClient) -> KnownDimensions:
        topics = load_topics()
        codecs = {each: Codec(topics[each.topic].schema_text, registry) for each in (CUSTOMERS, PRODUCTS)}
        names = [dimension.topic for dimension in codecs]
        return KnownDimensions(
            codecs,
            lambda: KafkaFollower(self._settings.kafka, names, self._settings.slot),
            on_failure=self._stop_runner,
        )

    def _stop_runner(self) -> None:
        if self._runner is not None:
            self._runner.stop()

    def _build(self, registry: RegistryClient, dimensions: KnownDimensions) -> Runner:
        settings, clock = self._settings, SystemClock()
        topics = load_topics()
        rates = load_rates()
        pipeline = EnrichPipeline(
            reader=Codec(topics[TOPIC_IN].schema_text, registry),
            writer=Codec(topics[TOPIC_OUT].schema_text, registry),
            schema_id=_register(registry, topics[TOPIC_OUT]),
            countries=CountryTable(countries()),
            rates=rates,
            clock=clock,
            observe=EnrichMetrics(self._stats.registry, rates.newest).observe,
            dimensions=dimensions.current,
        )
        clients = Clients(settings.kafka, settings.engine)
        return Runner(
            clients.consumer(GROUP, settings.slot),
            clients.transactional(settings.slot),
            pipeline,
            topics=[TOPIC_IN],
            stats=self._stats,
            clock=clock,
            limits=Limits(max_records=settings.enrich_batch_records),
        )


@stamina.retry(on=RegistryUnavailable, attempts=None, timeout=60.0, wait_max=2.0)
def _register(registry: RegistryClient, topic: Topic) -> int:
    """The schema id to write with. `up` has registered it; this only asks, and waits for a registry that
    is just starting."""
    return registry.register(topic.subject, topic.schema_text)
