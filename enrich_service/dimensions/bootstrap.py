"""The only place that constructs the adapters of the dimension builder."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import replace

import stamina

from enrich_service.asof import AsOf
from enrich_service.corrections.run import Correction
from enrich_service.corrections.schedule import CorrectionMetrics, Schedule
from enrich_service.countries import CountryTable
from enrich_service.dimensions.envelope import Envelopes
from enrich_service.dimensions.members import MEMBERS, Member
from enrich_service.dimensions.metrics import ChangeMetrics, VersionCount
from enrich_service.dimensions.pipeline import SALES, DimensionsPipeline, Output
from enrich_service.dimensions.settings import DimensionsSettings
from enrich_service.dimensions.state import DimensionState
from schemas.catalogue import Topic, load_topics
from schemas.codec import Codec
from schemas.reference import countries
from schemas.registry import RegistryClient, RegistryUnavailable
from streamkit.clock import SystemClock
from streamkit.kafka import KafkaAdmin, KafkaConsumer, KafkaFollower, KafkaTransactionalProducer
from streamkit.limits import Limits
from streamkit.ports import BrokerError, Follower
from streamkit.runner import Runner
from streamkit.stats import StageStats
from streamkit.telemetry import StageServer

_log = logging.getLogger(__name__)


class Stage:
    """The dimension builder, ready to run.

    There is one: a member's changes, and the sales that name it, lie in partitions that have nothing to do
    with each other. Whatever `instance` says, it takes the same slot: a second process fences the first.
    """

    def __init__(self, settings: DimensionsSettings) -> None:
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
            self._runner, corrections = self._build()
            corrections.start()
            try:
                if not self._stopped:
                    self._runner.run()
            finally:
                corrections.stop()

    def _build(self) -> tuple[Runner, Schedule]:
        settings = self._settings
        topics, registry = load_topics(), RegistryClient(settings.registry)
        members = [_renamed(member, settings.dimensions_topic_prefix) for member in MEMBERS]
        sales = settings.dimensions_topic_prefix + SALES
        codecs = {each: Codec(topics[_plain(each, settings)].schema_text, registry) for each in members}
        state = DimensionState(codecs, self._follower, CountryTable(countries()), self._clock)
        VersionCount(self._stats.registry, state.sizes)
        unreadable = ChangeMetrics(self._stats.registry).count_unreadable
        pipeline = DimensionsPipeline(
            changes={member: Envelopes(member, registry, unreadable) for member in members},
            sales=Codec(topics[SALES].schema_text, registry),
            state=state,
            outputs={
                member: Output(
                    member.dimension.topic,
                    codec,
                    _register(registry, topics[_plain(member, settings)]),
                    _partitions(settings.kafka, member.dimension.topic),
                )
                for member, codec in codecs.items()
            },
            sales_topic=sales,
        )
        slot = f"tillstream.{settings.service}.0"
        corrections = self._corrections(state, members, sales, registry)
        runner = Runner(
            KafkaConsumer(settings.kafka, settings.dimensions_group, slot),
            KafkaTransactionalProducer(settings.kafka, slot),
            pipeline,
            topics=_existing(settings.kafka, [sales, *(member.source for member in members)]),
            stats=self._stats,
            clock=self._clock,
            participants=[state],
            limits=Limits(
                max_records=settings.dimensions_batch_records, linger_s=settings.dimensions_linger_s
            ),
        )
        return runner, corrections

    def _corrections(
        self, state: DimensionState, members: Sequence[Member], sales: str, registry: RegistryClient
    ) -> Schedule:
        settings, topic = self._settings, load_topics()[SALES]
        correction = Correction(
            follower=lambda: self._follower([sales]),
            producer=KafkaTransactionalProducer(
                settings.kafka, f"tillstream.{settings.service}.corrections.0"
            ),
            codec=Codec(topic.schema_text, registry),
            schema_id=_register(registry, topic),
            versions=lambda: {m.dimension: AsOf.of(m.dimension, state.current(m)) for m in members},
            clock=self._clock,
            topic=sales,
        )
        return Schedule(
            correction,
            state.rekeyings,
            self._clock,
            CorrectionMetrics(self._stats.registry),
            every_s=settings.corrections_every_s,
            settle_s=settings.corrections_settle_s,
        )

    def _follower(self, topics: Sequence[str]) -> Follower:
        return KafkaFollower(self._settings.kafka, topics, "tillstream.dimensions")


def _renamed(member: Member, prefix: str) -> Member:
    if not prefix:
        return member
    dimension = replace(member.dimension, topic=prefix + member.dimension.topic)
    return replace(member, dimension=dimension, source=prefix + member.source)


def _plain(member: Member, settings: DimensionsSettings) -> str:
    """Name of the member's topic in the catalogue."""
    return member.dimension.topic.removeprefix(settings.dimensions_topic_prefix)


@stamina.retry(on=BrokerError, attempts=None, timeout=60.0, wait_max=2.0)
def _partitions(bootstrap: str, topic: str) -> int:
    """Waits for a broker that is just starting."""
    admin = KafkaAdmin(bootstrap)
    try:
        return len(admin.partitions(topic))
    finally:
        admin.close()


def _existing(bootstrap: str, wanted: Sequence[str]) -> list[str]:
    """Where no database is captured, sales alone tell of customers and products."""
    admin = KafkaAdmin(bootstrap)
    try:
        there = admin.topics()
    finally:
        admin.close()
    if missing := [topic for topic in wanted if topic not in there]:
        _log.warning("no such topic; start again once it is there", extra={"topics": missing})
    return [topic for topic in wanted if topic in there]


@stamina.retry(on=RegistryUnavailable, attempts=None, timeout=60.0, wait_max=2.0)
def _register(registry: RegistryClient, topic: Topic) -> int:
    """The schema id to write with. `up` has registered it; this only asks, and waits for a registry that is
    just starting."""
    return registry.register(topic.subject, topic.schema_text)
