"""The only place that constructs adapters: from settings to an application."""

from __future__ import annotations

from anyio import CapacityLimiter
from fastapi import FastAPI
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider

from ingest_service.admission import Admission
from ingest_service.api import Service
from ingest_service.app import create_app
from ingest_service.job_runner import JobRunner
from ingest_service.jobs import JobStore
from ingest_service.metrics import Metrics
from ingest_service.pipeline import Limits, Pipeline
from ingest_service.producers import RenewedProducer
from ingest_service.rate_limit import RedisRateLimiter
from ingest_service.readiness import Gate
from ingest_service.settings import IngestSettings
from schemas.catalogue import load_topics
from schemas.registry import RegistryClient
from streamkit.clock import SystemClock
from streamkit.kafka import KafkaAdmin, KafkaProducer
from streamkit.stats import StageStats

_PROBE_TIMEOUT_S = 3.0


def build_service(settings: IngestSettings) -> Service:
    """Nothing is connected to before the application starts."""
    clock = SystemClock()
    stats = StageStats(settings.service, clock)
    metrics = Metrics(stats.registry)
    producer = RenewedProducer(lambda: KafkaProducer(settings.kafka, settings.slot))
    gate = Gate(
        registry=RegistryClient(settings.registry),
        admin=KafkaAdmin(settings.kafka, _PROBE_TIMEOUT_S),
        topics=load_topics(),
        stats=stats,
    )
    pipeline = Pipeline(
        encoders=gate.encoders,
        producer=producer,
        clock=clock,
        stats=stats,
        metrics=metrics,
        limits=Limits(settings.ingest_max_items, settings.ingest_max_item),
        produce_timeout_s=settings.ingest_produce_timeout,
    )
    store = JobStore(settings.state / "ingest" / settings.instance / "jobs")
    return Service(
        settings=settings,
        pipeline=pipeline,
        producer=producer,
        gate=gate,
        store=store,
        jobs=JobRunner(store, pipeline, metrics, settings.ingest_keep_jobs),
        limiter=RedisRateLimiter(settings.redis, settings.ingest_rate, metrics),
        admission=Admission(settings.ingest_max_requests, settings.ingest_max_in_flight, metrics.in_flight),
        threads=CapacityLimiter(settings.ingest_workers),
        stats=stats,
        metrics=metrics,
        clock=clock,
    )


def build_app(settings: IngestSettings) -> FastAPI:
    # Spans carry the caller's trace on; an exporter is added by OpenTelemetry's own environment.
    resource = Resource.create({"service.name": f"tillstream-{settings.service}"})
    return create_app(build_service(settings), TracerProvider(resource=resource))
