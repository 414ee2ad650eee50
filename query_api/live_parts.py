"""Puts the two subscriptions together: who reads what, and on which thread. Used by bootstrap."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass

from query_api.kpis import Analytics
from query_api.live import Seats
from query_api.live_kpis import Distinct, LiveKpis, TotalsReader
from query_api.live_sales import LiveSales, SalesReader
from query_api.metrics import Metrics
from query_api.settings import QuerySettings
from query_api.topic_tail import TopicTail
from schemas.catalogue import load_topics
from schemas.codec import Codec
from schemas.registry import RegistryClient

_ENRICHED, _AGGREGATES = "sales.enriched.v1", "sales.aggregates.v1"
_BACK = 200
"""Offsets before the end of a partition: its last total is among them unless aborted attempts follow it."""


class Loop:
    """The way from a tail's thread into the event loop."""

    def __init__(self) -> None:
        self._loop: asyncio.AbstractEventLoop | None = None

    def enter(self) -> None:
        """In the event loop, before anything is read."""
        self._loop = asyncio.get_running_loop()

    def call(self, action: Callable[[], None]) -> None:
        if self._loop is not None and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(action)


@dataclass(frozen=True, slots=True)
class LiveParts:
    kpis: LiveKpis
    sales: LiveSales
    tail: TopicTail
    loop: Loop

    def start(self) -> None:
        """In the event loop."""
        self.loop.enter()
        self.tail.start()

    def stop(self) -> None:
        self.tail.stop()


def build(settings: QuerySettings, analytics: Analytics, metrics: Metrics) -> LiveParts:
    topics, registry = load_topics(), RegistryClient(settings.registry)
    seats = Seats(settings.query_max_subscriptions, metrics.subscriptions.set)

    async def distinct() -> Distinct:
        kpis = await analytics.kpis()
        return Distinct(kpis.orders, kpis.customers)

    live_kpis = LiveKpis(
        distinct, seats, interval=settings.query_live_interval, heartbeat=settings.query_live_heartbeat
    )
    live_sales = LiveSales(seats, buffer=settings.query_live_buffer)
    loop = Loop()
    totals = TotalsReader(
        Codec(topics[_AGGREGATES].schema_text, registry),
        lambda counted: loop.call(lambda: live_kpis.count(counted)),
        metrics.live,
        metrics.heartbeats,
    )
    enriched = SalesReader(Codec(topics[_ENRICHED].schema_text, registry), live_sales, loop.call)
    live_sales.feed_from(TopicTail(settings.kafka, settings.query_enriched_topic, enriched))
    tail = TopicTail(settings.kafka, settings.query_aggregates_topic, totals, back=_BACK)
    return LiveParts(live_kpis, live_sales, tail, loop)
