"""The chain in memory: what is posted comes out as good or bad.

post -> ingest -> raw -> quality -> validated -> enrich -> enriched      good
              \\-> quarantine <-/                                        bad
"""

from __future__ import annotations

import threading
import uuid
from collections.abc import Iterator
from typing import Any, Final

import polars as pl
from prometheus_client import CollectorRegistry

from enrich_service.countries import CountryTable
from enrich_service.fx import FxTable
from enrich_service.pipeline import EnrichPipeline
from enrich_service.reference import load_rates
from ingest_service.metrics import Metrics
from ingest_service.model import Defaults
from ingest_service.pipeline import Encoders, Identified, Limits, Pipeline
from ingest_service.records import Origin
from quality_service.changelog import DecidedBatch
from quality_service.memory_store import MemoryStores
from quality_service.pipeline import QualityPipeline, RawTopic, Writer
from quality_service.rules import Rules
from quality_service.state import IdState
from schemas.catalogue import load_topics
from schemas.codec import Codec
from schemas.contract import load_contract
from schemas.fakes import InMemoryRegistry
from schemas.reference import countries
from streamkit.clock import Clock, SystemClock
from streamkit.limits import Limits as BatchLimits
from streamkit.memory import MemoryBroker, MemoryConsumer, MemoryProducer, MemoryTransactionalProducer
from streamkit.ports import NewTopic, Participant
from streamkit.ports import Pipeline as StagePipeline
from streamkit.runner import Runner
from streamkit.stats import StageStats

RAW, VALIDATED, ENRICHED = "sales.raw.v1", "sales.validated.v1", "sales.enriched.v1"
QUARANTINE, DECISIONS = "sales.quarantine.v1", "sales.decisions.v1"
_TOPICS: Final = (RAW, VALIDATED, ENRICHED, QUARANTINE, DECISIONS)
_LIMITS: Final = BatchLimits(poll_timeout_s=0.0, linger_s=0.0)
_TRACE: Final = "00-{}-{}-01"


class Chain:
    """Thread-safe. `post` answers when ingest has; `good` and `bad` when all posted has its outcome."""

    def __init__(
        self, clock: Clock | None = None, *, items: int = 200_000, item_bytes: int = 1 << 20
    ) -> None:
        self._clock = clock or SystemClock()
        self._rates = load_rates()
        self._limits = Limits(items, item_bytes)
        self._lock = threading.Lock()
        self._build()

    def post(
        self,
        body: bytes,
        *,
        lines: bool = False,
        load_id: str | None = None,
        defaults: Defaults | None = None,
    ) -> Identified:
        """A sale or an array of sales as JSON, or NDJSON with `lines`. Raises as ingest's pipeline does."""
        with self._lock:
            return self._ingest.accept_json(body, defaults or Defaults(), _origin(load_id), lines=lines)

    def replay(self, body: bytes, load_id: str) -> Identified:
        """Mended items as NDJSON, as ingest's `/v1/replays/sales` takes them."""
        with self._lock:
            return self._ingest.accept_replays(body, _origin(load_id))[0]

    def good(self) -> pl.DataFrame:
        """Enriched sales, the columns of `sales.enriched.v1`."""
        return self._read(ENRICHED)

    def bad(self) -> pl.DataFrame:
        """Quarantined items, the columns of `sales.quarantine.v1`."""
        return self._read(QUARANTINE).filter(pl.col("state") == "OPEN")

    def codec(self, topic: str) -> Codec:
        """Of the records that the chain writes."""
        return self._codecs[topic]

    def reset(self) -> None:
        """As if newly started."""
        with self._lock:
            self._build()

    def drain(self) -> None:
        """Until every stage has read to the end. Raises what a stage must not go on after."""
        with self._lock:
            idle = 0
            while idle < len(self._stages):
                worked = [stage.step() for stage in self._stages]
                idle = 0 if any(worked) else idle + 1

    def _read(self, topic: str) -> pl.DataFrame:
        self.drain()
        with self._lock:
            records = self.broker.committed_records(topic)
            frame: pl.DataFrame = self._codecs[topic].decode([record.value for record in records]).frame
            return frame

    def _build(self) -> None:
        """Every adapter anew, on an empty broker."""
        topics = load_topics()
        self.broker = MemoryBroker(clock=self._clock)
        self.registry = InMemoryRegistry()
        self._ids: dict[str, int] = {}
        self._codecs: dict[str, Codec] = {}
        for name in _TOPICS:
            topic = topics[name]
            self.broker.create_topic(NewTopic(name, topic.partitions))
            self._ids[name] = self.registry.register(topic.subject, topic.schema_text)
            self._codecs[name] = Codec(topic.schema_text, self.registry)
        self._ingest = self._door()
        self._stages = [self._quality(topics[RAW].partitions), self._enrich(self._rates)]
        for stage in self._stages:
            stage.start()

    def _door(self) -> Pipeline:
        encoders = Encoders(self._encoder(RAW), self._encoder(QUARANTINE))
        stats = StageStats("ingest", self._clock, CollectorRegistry())
        return Pipeline(
            encoders=lambda: encoders,
            producer=MemoryProducer(self.broker),
            clock=self._clock,
            stats=stats,
            metrics=Metrics(stats.registry),
            limits=self._limits,
            produce_timeout_s=1.0,
        )

    def _quality(self, partitions: int) -> Runner:
        raw = RawTopic(RAW, self.broker.topic_id(RAW), partitions)
        state = IdState(raw.name, raw.topic_id, MemoryStores(), _NoHistory(), self._clock)
        pipeline = QualityPipeline(
            raw=raw,
            reader=self._codecs[RAW],
            validated=self._writer(VALIDATED),
            quarantine=self._writer(QUARANTINE),
            decisions=self._writer(DECISIONS),
            rules=Rules(load_contract()),
            state=state,
            clock=self._clock,
        )
        return self._stage("quality", RAW, pipeline, state)

    def _enrich(self, rates: FxTable) -> Runner:
        pipeline = EnrichPipeline(
            reader=self._codecs[VALIDATED],
            writer=self._codecs[ENRICHED],
            schema_id=self._ids[ENRICHED],
            countries=CountryTable(countries()),
            rates=rates,
            clock=self._clock,
        )
        return self._stage("enrich", VALIDATED, pipeline)

    def _stage(self, name: str, topic: str, pipeline: StagePipeline, *state: Participant) -> Runner:
        return Runner(
            MemoryConsumer(self.broker, f"tillstream.{name}"),
            MemoryTransactionalProducer(self.broker, f"tillstream.{name}.0"),
            pipeline,
            topics=[topic],
            stats=StageStats(name, self._clock, CollectorRegistry()),
            clock=self._clock,
            participants=state,
            limits=_LIMITS,
        )

    def _writer(self, topic: str) -> Writer:
        return Writer(topic, self._codecs[topic], self._ids[topic])

    def _encoder(self, topic: str) -> _Encoder:
        return _Encoder(self._writer(topic))


def _origin(load_id: str | None) -> Origin:
    trace = uuid.uuid4().hex
    return Origin(
        load_id or str(uuid.uuid4()), _TRACE.format(trace, trace[:16]), "json", ordinals_identify=False
    )


class _Encoder:
    """Ingest's port over a codec with its schema id."""

    def __init__(self, writer: Writer) -> None:
        self._writer = writer

    def encode(self, frame: pl.DataFrame) -> list[bytes]:
        return self._writer.codec.encode(frame, self._writer.schema_id)


class _NoHistory:
    """A changelog for a process that begins with nothing."""

    def read(self, topic_id: str, partition: int, after: int) -> Iterator[DecidedBatch]:
        return iter(())


def rows(frame: pl.DataFrame) -> list[dict[str, Any]]:
    """For JSON: bytes as text, times in ISO 8601."""
    plain = frame.with_columns(pl.col(pl.Binary).map_elements(_text, return_dtype=pl.String))
    times = plain.select(pl.col(pl.Datetime)).columns
    return plain.with_columns(pl.col(times).dt.strftime("%Y-%m-%dT%H:%M:%S%.3fZ")).to_dicts()


def _text(value: bytes) -> str:
    return value.decode("utf-8", "backslashreplace")
