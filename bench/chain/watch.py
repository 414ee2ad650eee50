"""Watchers of the stores: each runs on a thread of its own and notes when it saw what."""

from __future__ import annotations

import asyncio
import json
import threading
import time
from abc import ABC, abstractmethod
from typing import Any, Final

import asyncpg
import confluent_kafka as ck
import httpx
import polars as pl
import websockets

from bench.chain.arrivals import Series
from schemas.aggregates import TOTAL
from schemas.catalogue import load_topics
from schemas.codec import Codec
from schemas.registry import RegistryClient

ENRICHED: Final = "sales.enriched.v1"
AGGREGATES: Final = "sales.aggregates.v1"
_OFFSETS: Final = "SELECT partition, next_offset FROM ops.stream_offsets WHERE topic = $1"


def now_ms() -> float:
    return time.time_ns() / 1e6


class Watcher(ABC):
    """`stop` returns once the thread has ended, and raises what it failed with."""

    def __init__(self) -> None:
        self.stopping = threading.Event()
        self._failure: BaseException | None = None
        self._thread = threading.Thread(target=self._guarded, name=type(self).__name__, daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self.stopping.set()
        self._thread.join(timeout=30.0)
        if self._failure is not None:
            raise self._failure

    def _guarded(self) -> None:
        try:
            self.watch()
        except BaseException as failure:
            self._failure = failure

    @abstractmethod
    def watch(self) -> None:
        """Until `stopping` is set."""


class AggregatesWatcher(Watcher):
    """A reader of committed totals. A shard's total covers its input partition below `input_offset`."""

    def __init__(self, kafka: str, registry: str) -> None:
        super().__init__()
        self.series: dict[int, Series] = {}
        topic = load_topics()[AGGREGATES]
        self._codec = Codec(topic.schema_text, RegistryClient(registry))
        self._partitions = topic.partitions
        self._consumer = ck.Consumer(
            {
                "bootstrap.servers": kafka,
                "group.id": f"tillstream.bench.live.{time.time_ns()}",
                "enable.auto.commit": False,
                "isolation.level": "read_committed",
                "fetch.wait.max.ms": 100,
            }
        )

    def watch(self) -> None:
        self._consumer.assign(
            [ck.TopicPartition(AGGREGATES, p, ck.OFFSET_BEGINNING) for p in range(self._partitions)]
        )
        try:
            while not self.stopping.is_set():
                messages = self._consumer.consume(5_000, 0.005)
                if messages:
                    self._note([m.value() for m in messages if m.error() is None], now_ms())
        finally:
            self._consumer.close()

    def _note(self, values: list[bytes | None], at_ms: float) -> None:
        totals = self._codec.decode(values).frame.filter(pl.col("grain") == TOTAL)
        for shard, below in totals.select("shard", "input_offset").iter_rows():
            self.series.setdefault(shard, Series()).add(at_ms, below)


class WarehouseWatcher(Watcher):
    """Asks every `every_s` how far the warehouse has come: its offsets move in the transaction that makes the
    rows visible. The time is when the answer was there, so that a latency is too long by that at most."""

    def __init__(self, dsn: str, every_s: float = 0.01) -> None:
        super().__init__()
        self.series: dict[int, Series] = {}
        self._dsn = dsn
        self._every_s = every_s

    def watch(self) -> None:
        asyncio.run(self._poll())

    async def _poll(self) -> None:
        connection = await asyncpg.connect(self._dsn)
        try:
            ask = await connection.prepare(_OFFSETS)
            while not self.stopping.is_set():
                rows = await ask.fetch(ENRICHED)
                at_ms = now_ms()
                for partition, below in rows:
                    self.series.setdefault(partition, Series()).add(at_ms, below)
                await asyncio.sleep(self._every_s)
        finally:
            await connection.close()


class SubscriptionWatcher(Watcher):
    """A client of the `kpis` subscription: how many lines it was told of, and when."""

    def __init__(self, graphql: str) -> None:
        super().__init__()
        self.at_ms: list[float] = []
        self.lines: list[int] = []
        self._url = "ws" + graphql.removeprefix("http")

    def watch(self) -> None:
        asyncio.run(self._listen())

    async def _listen(self) -> None:
        protocol: Any = ["graphql-transport-ws"]
        async with websockets.connect(self._url, subprotocols=protocol, max_queue=None) as socket:
            await socket.send(json.dumps({"type": "connection_init", "payload": {}}))
            query = {"query": "subscription { kpis { lines } }"}
            await socket.send(json.dumps({"id": "1", "type": "subscribe", "payload": query}))
            while not self.stopping.is_set():
                try:
                    message = json.loads(await asyncio.wait_for(socket.recv(), 0.2))
                except TimeoutError:
                    continue
                if message["type"] == "ping":
                    await socket.send(json.dumps({"type": "pong"}))
                elif message["type"] in ("error", "complete"):
                    raise RuntimeError(f"the subscription ended: {message}")
                elif message["type"] == "next":
                    self._note(message["payload"]["data"]["kpis"]["lines"], now_ms())

    def _note(self, lines: int, at_ms: float) -> None:
        if not self.lines or lines > self.lines[-1]:
            self.lines.append(lines)
            self.at_ms.append(at_ms)


class GraphqlSampler(Watcher):
    """Once a second: takes the invoice that is being sent now, and asks GraphQL for it every 20 ms until it
    is there. What it notes is a sample."""

    QUERY: Final = (
        "query($i: String!) { sales(first: 1, filter: {invoiceNo: $i}) { edges { node { eventId } } } }"
    )

    def __init__(self, graphql: str, upcoming: dict[int, str], every_s: float = 1.0) -> None:
        """`upcoming`: whole second since 1970 -> invoice number that is sent in it."""
        super().__init__()
        self.seen_ms: dict[str, float] = {}
        self.query_ms: list[float] = []
        self._http = httpx.Client(timeout=10.0, headers={"Authorization": "Bearer loopback"})
        self._url = graphql
        self._upcoming = upcoming
        self._every_s = every_s

    def watch(self) -> None:
        with self._http:
            while not self.stopping.is_set():
                invoice = self._upcoming.get(int(time.time()))
                begun = time.monotonic()
                if invoice is not None:
                    self._until_there(invoice)
                self.stopping.wait(max(self._every_s - (time.monotonic() - begun), 0.0))

    def _until_there(self, invoice: str) -> None:
        deadline = time.monotonic() + 10.0
        while not self.stopping.is_set() and time.monotonic() < deadline:
            asked = time.monotonic()
            body = {"query": self.QUERY, "variables": {"i": invoice}}
            answer = self._http.post(self._url, json=body).raise_for_status().json()
            self.query_ms.append((time.monotonic() - asked) * 1000.0)
            edges = answer["data"]["sales"]["edges"]
            if edges:
                self.seen_ms[edges[0]["node"]["eventId"]] = now_ms()
                return
            time.sleep(0.02)
