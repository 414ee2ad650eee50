"""Builds the ledger from its settings: the only place that constructs its adapters."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
from collections.abc import AsyncIterator

import asyncpg
from fastapi import FastAPI

from quality_service.ledger.follow import TOPICS, VALIDATED, Follower
from quality_service.ledger.metrics import LedgerMetrics
from quality_service.ledger.routes import create_app
from quality_service.ledger.scores import Scores
from quality_service.ledger.service import LedgerService
from quality_service.ledger.settings import LedgerSettings
from quality_service.ledger.stores import LakeFacts
from quality_service.ledger.watch import Watch
from schemas.catalogue import load_topics
from schemas.codec import Codec
from schemas.registry import RegistryClient
from streamkit.kafka import KafkaAdmin, KafkaConsumer
from streamkit.telemetry import StageStats

log = logging.getLogger(__name__)

_LAG_INTERVAL_S = 1.0


def build(settings: LedgerSettings) -> FastAPI:
    """The application; its lifespan starts and stops the follower. Raises what an adapter raises."""
    stats = StageStats("ledger")
    metrics = LedgerMetrics(stats.registry)
    registry = RegistryClient(settings.registry)
    catalogue = load_topics()
    codecs = {topic: Codec(catalogue[topic].schema_text, registry) for topic in TOPICS}
    follower = Follower(KafkaConsumer(settings.kafka, settings.group), codecs)
    admin = KafkaAdmin(settings.kafka)

    def enrich_position() -> dict[int, int]:
        committed = admin.committed_offsets(settings.enrich_group, VALIDATED)
        return {tp.partition: offset for tp, offset in committed.items()}

    @contextlib.asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        async with asyncpg.create_pool(settings.postgres, min_size=1, max_size=3) as pool:
            lake = LakeFacts(settings.lake)
            ledger = LedgerService(follower, lake, pool, enrich_position, metrics.drawn)
            app.state.ledger = ledger
            follower.start()
            books = Watch(lambda: ledger.balance(None), stats.registry, settings.ledger_check_every_s)
            scores = Scores(pool, stats.registry, settings.quality_check_every_s)
            tasks = [
                asyncio.create_task(work)
                for work in (books.run(), scores.run(), _watch(follower, stats, books))
            ]
            yield
            for task in tasks:
                task.cancel()
            await asyncio.to_thread(follower.stop)

    app = create_app(follower, stats, lifespan)
    app.state.failed = lambda: follower.failure is not None
    return app


async def _watch(follower: Follower, stats: StageStats, books: Watch) -> None:
    """Keep the stage's state and lag true; a follower that failed ends the process."""
    while follower.failure is None:
        lag = follower.lag()
        if lag is None:
            stats.starting("the topics are not assigned yet")
        else:
            stats.set_lag(lag)
            if books.alert is None:
                stats.ready()
            else:
                stats.degraded(books.alert)
        await asyncio.sleep(_LAG_INTERVAL_S)
    log.critical("the follower failed, the ledger ends", exc_info=follower.failure)
    signal.raise_signal(signal.SIGTERM)
