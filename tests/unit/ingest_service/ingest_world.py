"""The ingest service on the in-memory broker and registry, and what it left there, decoded."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import httpx
import polars as pl
from anyio import CapacityLimiter
from hypothesis import settings
from opentelemetry.sdk.trace import TracerProvider
from prometheus_client import CollectorRegistry

from ingest_service.admission import Admission
from ingest_service.api import Service
from ingest_service.app import create_app
from ingest_service.job_runner import JobRunner
from ingest_service.jobs import JobStore
from ingest_service.metrics import Metrics
from ingest_service.pipeline import Limits, Pipeline
from ingest_service.rate_limit import Verdict
from ingest_service.readiness import Gate
from ingest_service.records import QUARANTINE_TOPIC, RAW_TOPIC
from ingest_service.settings import IngestSettings
from schemas.catalogue import load_topics
from schemas.codec import Codec
from schemas.fakes import InMemoryRegistry
from schemas.registry import RegistryClient
from streamkit.clock import FakeClock
from streamkit.memory import MemoryAdmin, MemoryBroker, MemoryProducer, Record
from streamkit.ports import NewTopic, OutputBatch, Producer
from streamkit.stats import StageStats

# A shared machine may stall for a moment; a property is about results.
PROPERTY = settings(deadline=None, max_examples=80)

SALE: dict[str, Any] = {
    "source_system": "web",
    "invoice_no": "536365",
    "line_no": 1,
    "stock_code": "85123A",
    "description": "WHITE HANGING HEART T-LIGHT HOLDER",
    "quantity": 6,
    "unit_price": "2.55",
    "currency": "GBP",
    "customer_id": "17850.0",
    "country": "United Kingdom",
    "invoice_ts": "2010-12-01T08:26:00Z",
}
HEADER = b"InvoiceNo,StockCode,Description,Quantity,InvoiceDate,UnitPrice,CustomerID,Country\n"


class Registry(InMemoryRegistry):
    """With the one call more that registering a catalogue makes."""

    def set_compatibility(self, subject: str, level: str) -> None:
        self._answer()


class Allowing:
    """A rate limiter that answers as it is told."""

    def __init__(self) -> None:
        self.verdict: Verdict | None = Verdict(True, 600, 599, 1)
        self.clients: list[str] = []

    async def hit(self, client: str) -> Verdict | None:
        self.clients.append(client)
        return self.verdict


class Journal:
    """A producer that writes down when the broker had acknowledged, among other things that happen."""

    def __init__(self, inner: Producer, actions: list[str]) -> None:
        self._inner = inner
        self._actions = actions

    def produce(self, batches: Sequence[OutputBatch], timeout_s: float) -> None:
        self._inner.produce(batches, timeout_s)
        self._actions.append("acknowledged")

    def close(self) -> None:
        self._inner.close()


@dataclass
class World:
    """`folder` holds the jobs; a second world on it is the process after a restart."""

    folder: Path
    settings: IngestSettings = field(default_factory=IngestSettings)
    broker: MemoryBroker = field(default_factory=MemoryBroker)
    registry: Registry = field(default_factory=Registry)
    clock: FakeClock = field(default_factory=FakeClock)
    actions: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        topics = load_topics()
        for name in (RAW_TOPIC, QUARANTINE_TOPIC):
            self.broker.create_topic(NewTopic(name, topics[name].partitions))
        self.codecs = {name: Codec(topics[name].schema_text, self.registry) for name in topics}
        self.stats = StageStats("ingest", self.clock, CollectorRegistry())
        self.metrics = Metrics(self.stats.registry)
        self.limiter = Allowing()
        self.admission = Admission(
            self.settings.ingest_max_requests, self.settings.ingest_max_in_flight, self.metrics.in_flight
        )
        self.admin = MemoryAdmin(self.broker)
        self.gate = Gate(
            registry=cast(RegistryClient, self.registry),
            admin=self.admin,
            topics=topics,
            stats=self.stats,
        )
        self.producer = Journal(MemoryProducer(self.broker), self.actions)
        self.pipeline = Pipeline(
            encoders=self.gate.encoders,
            producer=self.producer,
            clock=self.clock,
            stats=self.stats,
            metrics=self.metrics,
            limits=Limits(self.settings.ingest_max_items, self.settings.ingest_max_item),
            produce_timeout_s=1.0,
        )
        self.store = JobStore(self.folder / "jobs")
        self.jobs = JobRunner(self.store, self.pipeline, self.metrics, keep=10)

    def service(self) -> Service:
        return Service(
            settings=self.settings,
            pipeline=self.pipeline,
            producer=self.producer,
            gate=self.gate,
            store=self.store,
            jobs=self.jobs,
            limiter=self.limiter,
            admission=self.admission,
            threads=CapacityLimiter(2),
            stats=self.stats,
            metrics=self.metrics,
            clock=self.clock,
        )

    def client(self) -> httpx.AsyncClient:
        """Without the application's lifespan: a test starts what it needs."""
        transport = httpx.ASGITransport(create_app(self.service(), TracerProvider()))
        return httpx.AsyncClient(transport=transport, base_url="http://ingest")

    def records(self, topic: str) -> list[Record]:
        return self.broker.committed_records(topic)

    def sales(self) -> pl.DataFrame:
        return self._decoded(RAW_TOPIC)

    def quarantine(self) -> pl.DataFrame:
        return self._decoded(QUARANTINE_TOPIC)

    def _decoded(self, topic: str) -> pl.DataFrame:
        decoded = self.codecs[topic].decode([record.value for record in self.records(topic)])
        assert not decoded.bad
        return decoded.frame
