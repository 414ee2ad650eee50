"""The only place that constructs the adapters of quality."""

from __future__ import annotations

import json

import stamina

from quality_service.deployment import DeploymentFile, version
from quality_service.guard import Guard
from quality_service.guard import Limits as GuardLimits
from quality_service.kafka_changelog import KafkaChangelog
from quality_service.lmdb_store import LmdbStores
from quality_service.metrics import QualityMetrics
from quality_service.pipeline import QualityPipeline, RawTopic, Writer
from quality_service.rules import Rules
from quality_service.settings import QualitySettings
from quality_service.state import IdState
from quality_service.store import Stores
from schemas.catalogue import Topic, load_topics
from schemas.codec import Codec
from schemas.contract import contract_text, load_contract
from schemas.registry import RegistryClient, RegistryUnavailable
from streamkit.clock import Clock, SystemClock
from streamkit.kafka import Clients, KafkaAdmin
from streamkit.limits import Limits
from streamkit.ports import BrokerError
from streamkit.runner import Runner
from streamkit.stats import StageStats
from streamkit.telemetry import Answer, StageServer, json_answer


class Stage:
    """Quality, ready to run."""

    def __init__(self, settings: QualitySettings, stores: Stores | None = None) -> None:
        """`stores`: other id stores than those on disk, for measurements."""
        self._settings = settings
        self._stores = stores or LmdbStores(settings.id_store, max_bytes=settings.id_store_max_bytes)
        self._clock: Clock = SystemClock()
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
        guard = self._guard()
        server = StageServer(
            self._stats,
            settings.http_host,
            settings.http_port,
            {"/guard": lambda: json_answer(200, guard.told())},
            {"/guard/allow": lambda body: _allow(guard, body)},
        )
        with server:
            state, self._runner = self._build(guard)
            try:
                if not self._stopped:
                    self._runner.run()
            finally:
                state.close()

    def _guard(self) -> Guard:
        settings = self._settings
        contract = load_contract()
        return Guard(
            version(contract.version, contract_text()),
            DeploymentFile(settings.state / "deployment.json"),
            self._clock,
            self._stats.registry,
            GuardLimits(window_s=settings.guard_window_s),
        )

    def _build(self, guard: Guard) -> tuple[IdState, Runner]:
        settings = self._settings
        registry = RegistryClient(settings.registry)
        topics = load_topics()
        raw = _describe(settings.kafka, settings.raw_topic)
        decisions = _writer(settings.decisions_topic, topics["sales.decisions.v1"], registry)
        state = IdState(
            raw.name,
            raw.topic_id,
            self._stores,
            KafkaChangelog(settings.kafka, settings.decisions_topic, decisions.codec),
            self._clock,
        )
        metrics = QualityMetrics(self._stats.registry, state)
        pipeline = QualityPipeline(
            raw=raw,
            reader=Codec(topics["sales.raw.v1"].schema_text, registry),
            validated=_writer(settings.validated_topic, topics["sales.validated.v1"], registry),
            quarantine=_writer(settings.quarantine_topic, topics["sales.quarantine.v1"], registry),
            decisions=decisions,
            rules=Rules(load_contract()),
            state=state,
            clock=self._clock,
            observe=metrics.observe,
            check=guard.check,
        )
        clients = Clients(settings.kafka, settings.engine)
        runner = Runner(
            clients.consumer(settings.group, settings.slot),
            clients.transactional(settings.slot),
            pipeline,
            topics=[raw.name],
            stats=self._stats,
            clock=self._clock,
            # The id store first: what it cannot restore must not be measured.
            participants=[state, metrics, guard],
            limits=Limits(max_records=settings.max_batch_records),
        )
        return state, runner


def _allow(guard: Guard, body: bytes) -> Answer:
    """`{"reason": a rule or null for all, "by": who}`: let such records through."""
    try:
        asked = json.loads(body)
        reason, who = asked.get("reason"), asked["by"]
    except (ValueError, KeyError, AttributeError):
        return json_answer(400, {"error": 'send {"reason": "RULE" or null, "by": "who"}'})
    if not isinstance(who, str) or not (reason is None or isinstance(reason, str)):
        return json_answer(400, {"error": "reason and by are texts"})
    return json_answer(200, guard.allow(reason, who))


@stamina.retry(on=BrokerError, attempts=None, timeout=60.0, wait_max=2.0)
def _describe(bootstrap: str, name: str) -> RawTopic:
    """The raw topic as the broker has it; waits for one that is just starting."""
    admin = KafkaAdmin(bootstrap)
    try:
        topic_id = admin.topic_ids([name])[name]
        return RawTopic(name, topic_id, len(admin.partitions(name)))
    finally:
        admin.close()


@stamina.retry(on=RegistryUnavailable, attempts=None, timeout=60.0, wait_max=2.0)
def _writer(name: str, topic: Topic, registry: RegistryClient) -> Writer:
    """`up` has registered the schema; this asks for its id, and waits for a registry that is starting."""
    return Writer(
        name, Codec(topic.schema_text, registry), registry.register(topic.subject, topic.schema_text)
    )
