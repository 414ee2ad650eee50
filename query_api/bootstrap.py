"""The only place that constructs adapters."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator

import httpx
from fastapi import FastAPI
from opentelemetry.instrumentation.fastapi import FastAPIInstrumentor
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider

from query_api import live_parts
from query_api.app import create_app
from query_api.coalesce import SnapshotCache
from query_api.context import Parts
from query_api.cost import CostRule, Limits
from query_api.errors import ApiError
from query_api.graph import MAX_FIRST, WEIGHTS, build_schema
from query_api.guard import Guard, GuardExtension
from query_api.kpis import Analytics
from query_api.lives import Lives
from query_api.members import Members
from query_api.metrics import Metrics
from query_api.pipeline import Answerer
from query_api.postgres import Store
from query_api.quality import QualityAnswers
from query_api.quarantine.door import Door
from query_api.quarantine.guard import Guard as QualityGuard
from query_api.quarantine.items import Items
from query_api.quarantine.journal import Journal
from query_api.quarantine.replays import Replays
from query_api.quarantine.routes import Quarantine
from query_api.sales import Sales
from query_api.settings import QuerySettings
from query_api.shop.database import Database
from query_api.shop.personal import PersonalData
from query_api.shop.service import Shop
from query_api.upstream import Platform
from schemas.catalogue import load_topics
from schemas.codec import Codec
from schemas.personal import Keyring
from schemas.registry import RegistryClient
from streamkit.telemetry import StageStats

RAW = "sales.raw.v1"
_PROBE_EVERY_S = 1.0


def build(settings: QuerySettings) -> FastAPI:
    """The application, ready to be served. It starts without Postgres and answers 503 until it is there."""
    metrics = Metrics(StageStats(settings.service))
    store = Store(
        settings.postgres,
        metrics,
        pool_max=settings.query_pool_max,
        connect_timeout=settings.query_connect_timeout,
        statement_timeout=settings.query_statement_timeout,
    )
    database = Database(
        settings.postgres,
        connect_timeout=settings.query_connect_timeout,
        statement_timeout=settings.query_statement_timeout,
    )
    cache = SnapshotCache(store, lambda result: metrics.snapshot_cache.labels(result).inc())
    platform = Platform(
        httpx.AsyncClient(),
        settings.stages,
        settings.ledger_url,
        lag_url=settings.lag_url,
        stage_timeout=settings.query_stage_timeout,
        ledger_timeout=settings.query_ledger_timeout,
    )
    analytics = Analytics(store, cache, max_series_points=settings.query_max_series_points)
    workplace = _quarantine(settings, store)
    keys = keyring(settings)
    live = live_parts.build(settings, analytics, metrics)
    parts = Parts(
        analytics=analytics,
        sales=Sales(store, cache, max_invoice_lines=settings.query_max_invoice_lines),
        members=Members(store, keys),
        lives=Lives(store, platform),
        platform=platform,
        quality=QualityAnswers(store, cache),
        quarantine=workplace,
        live_kpis=live.kpis,
        live_sales=live.sales,
    )
    # The rule needs the schema, and the schema's extension needs the rule.
    rule = CostRule(build_schema()._schema, Limits(first=MAX_FIRST), WEIGHTS)
    guard = Guard(rule, metrics)
    schema = build_schema(lambda: GuardExtension(guard))
    answerer = Answerer(schema, parts, metrics, max_body_bytes=settings.query_max_body_bytes)

    @contextlib.asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        probe = asyncio.create_task(watch(store, metrics))
        live.start()
        try:
            yield
        finally:
            probe.cancel()
            live.stop()
            await workplace.replays.close()
            await platform.close()
            await store.close()
            await database.close()

    app = create_app(
        schema,
        parts,
        answerer,
        shop=Shop(database, PersonalData(keys)),
        max_body_bytes=settings.query_max_body_bytes,
        metrics=metrics,
        ping=store.ping,
        lifespan=lifespan,
    )
    provider = TracerProvider(resource=Resource.create({"service.name": f"tillstream-{settings.service}"}))
    FastAPIInstrumentor.instrument_app(
        app,
        tracer_provider=provider,
        excluded_urls="health,ready,metrics,stats,static",
        exclude_spans=["receive", "send"],
    )
    return app


def _quarantine(settings: QuerySettings, store: Store) -> Quarantine:
    codec = Codec(load_topics()[RAW].schema_text, RegistryClient(settings.registry))
    items = Items(store)
    client = httpx.AsyncClient()
    replays = Replays(store, items, codec, Door(client, settings.ingest_url), Journal(settings.postgres))
    return Quarantine(items, replays, QualityGuard(client, settings.stages.get("quality")))


def keyring(settings: QuerySettings) -> Keyring | None:
    """None where the secrets are not given. Raises ValueError where they are none."""
    if settings.master_keys is None or settings.index_key is None:
        return None
    return Keyring.from_hex(settings.master_keys, settings.index_key)


async def watch(store: Store, metrics: Metrics) -> None:
    """Keeps the state that `/stats` tells up to date. Runs until it is cancelled."""
    while True:
        try:
            await store.ping()
            metrics.stats.ready()
        except ApiError as error:
            metrics.stats.degraded(str(error))
        await asyncio.sleep(_PROBE_EVERY_S)
