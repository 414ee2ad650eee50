"""Subscriptions over real Kafka, Postgres and WebSockets; one client is fast, one does not read."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import time
import uuid
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

import asyncpg
import polars as pl
import pytest
import uvicorn
import websockets

from deploy.local.testing import Servers
from query_api.bootstrap import build
from query_api.settings import QuerySettings
from schemas.catalogue import load_topics
from schemas.codec import Codec
from schemas.registry import RegistryClient
from streamkit.kafka import KafkaAdmin, KafkaProducer
from streamkit.ports import Headers, NewTopic, OutputBatch
from tests.integration.query_api_facts import SAMPLES, insert, read
from tests.integration.query_api_harness import database
from tests.unit.aggregates.aggregates_world import sale

AGGREGATES = "sales.aggregates.v1"
SHARDS = 3
KPIS = "revenue grossRevenue returns orders lines units customers averageOrderValue"
# Large messages, so that what a client does not read soon fills every buffer on the way.
WIDE = "subscription { kpis { " + " ".join(f"f{i}: revenue" for i in range(40)) + " lines } }"


@dataclass
class Totals:
    """Plays the aggregates process: publishes the total of a shard, with some windows before it."""

    kafka: str
    registry: str
    topic: str = field(default_factory=lambda: f"sub-{uuid.uuid4().hex[:8]}.{AGGREGATES}")
    counted: dict[int, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        topic, registry = load_topics()[AGGREGATES], RegistryClient(self.registry)
        self._schema_id = registry.register(topic.subject, topic.schema_text)
        self._codec = Codec(topic.schema_text, registry)
        admin = KafkaAdmin(self.kafka)
        admin.ensure_topics([NewTopic(self.topic, SHARDS, {"cleanup.policy": "compact"})])
        admin.close()
        self._producer = KafkaProducer(self.kafka)

    def publish(self, shard: int, lines: int, windows: int = 2) -> None:
        """Lines of 1.25 GBP, and one return of 0.50."""
        self.counted[shard] = lines
        now_ms = time.time_ns() // 1_000_000
        grains = ["minute_country"] * windows + ["total"]
        frame = pl.DataFrame(
            {
                "grain": grains,
                "window_start": pl.Series([0] * len(grains)).cast(pl.Datetime("ms")),
                "dimension": [f"d{i}" for i in range(windows)] + [""],
                "shard": pl.Series([shard] * len(grains), dtype=pl.Int32),
                "lines": [lines] * len(grains),
                "units": [2 * lines] * len(grains),
                "revenue_micros": [1_250_000 * lines - 500_000] * len(grains),
                "gross_revenue_micros": [1_250_000 * lines] * len(grains),
                "returns_micros": [-500_000] * len(grains),
                "updated_at": pl.Series([now_ms] * len(grains)).cast(pl.Datetime("ms")),
                "input_offset": [lines] * len(grains),
            }
        )
        keys = [f"{g}|{i}|{shard}".encode() for i, g in enumerate(grains)]
        headers: list[Headers] = [[] for _ in grains[:-1]]
        headers.append([("ingest-ts", str(now_ms).encode())])
        values = self._codec.encode(frame, self._schema_id)
        self._producer.produce([OutputBatch(self.topic, values, keys, headers, [shard] * len(grains))], 30.0)


class Client:
    """Speaks graphql-transport-ws."""

    def __init__(self, connection: websockets.ClientConnection) -> None:
        self._connection = connection

    async def subscribe(self, query: str) -> None:
        await self._say({"type": "connection_init"})
        assert json.loads(await self._connection.recv()) == {"type": "connection_ack"}
        await self._say({"id": "1", "type": "subscribe", "payload": {"query": query}})

    async def next(self, name: str = "kpis", timeout_s: float = 30.0) -> dict[str, Any]:
        async with asyncio.timeout(timeout_s):
            message = json.loads(await self._connection.recv())
        assert message["type"] == "next", message
        assert "errors" not in message["payload"], message
        found: dict[str, Any] = message["payload"]["data"][name]
        return found

    async def until_lines(self, lines: int) -> dict[str, Any]:
        while True:
            found = await self.next()
            if found["lines"] == lines:
                return found

    async def _say(self, message: dict[str, Any]) -> None:
        await self._connection.send(json.dumps(message))


@pytest.fixture
def totals(stack: Servers) -> Totals:
    return Totals(stack.kafka, stack.registry)


@pytest.fixture(scope="module")
def dsn(stack: Servers) -> Iterator[str]:
    async def load(made: str) -> None:
        connection = await asyncpg.connect(made)
        await insert(connection, read(sorted(SAMPLES.glob("*.csv"))[:1]))
        await connection.close()

    with database(stack.postgres) as made:
        asyncio.run(load(made))
        yield made


@contextlib.asynccontextmanager
async def served(stack: Servers, dsn: str, topic: str, **settings: Any) -> AsyncIterator[str]:
    """The WebSocket's URL of a query service of its own."""
    app = build(
        QuerySettings(
            postgres=dsn,
            kafka=stack.kafka,
            registry=stack.registry,
            query_aggregates_topic=topic,
            query_live_interval=0.002,
            **settings,
        )
    )
    listener = socket.create_server(("127.0.0.1", 0))
    # Inherited by each connection: the kernel would keep some megabytes for a client that does not read.
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 8_192)
    server = uvicorn.Server(uvicorn.Config(app, log_config=None, timeout_graceful_shutdown=1))
    running = asyncio.create_task(server.serve([listener]))
    try:
        yield f"ws://127.0.0.1:{listener.getsockname()[1]}/graphql"
    finally:
        server.should_exit = True
        await running


@contextlib.asynccontextmanager
async def connected(url: str, **options: Any) -> AsyncIterator[Client]:
    protocol = websockets.Subprotocol("graphql-transport-ws")
    async with websockets.connect(url, subprotocols=[protocol], close_timeout=1, **options) as connection:
        yield Client(connection)


def test_the_present_sum_of_all_shards_comes_first_with_the_warehouses_counts(
    stack: Servers, dsn: str, totals: Totals
) -> None:
    # The last total of shard 0 lies far before the end of its partition, and shard 2 is empty.
    totals.publish(0, 1_000)
    totals.publish(1, 500)
    totals._producer.produce(
        [OutputBatch(totals.topic, [b"x"] * 5_000, [b"minute_country|x"] * 5_000, None, [0] * 5_000)], 30.0
    )

    async def run() -> dict[str, Any]:
        async with served(stack, dsn, totals.topic) as url, connected(url) as client:
            await client.subscribe(f"subscription {{ kpis {{ {KPIS} }} }}")
            return await client.next()

    found = asyncio.run(run())
    assert (found["lines"], found["units"]) == (1_500, 3_000)
    assert (found["revenue"], found["grossRevenue"], found["returns"]) == ("1874.00", "1875.00", "-1.00")
    lines = read(sorted(SAMPLES.glob("*.csv"))[:1])
    orders = len({line.invoice for line in lines if not line.is_return})
    assert found["orders"] == orders
    assert found["customers"] == len({line.customer for line in lines if line.customer})
    assert abs(Decimal(found["averageOrderValue"]) - Decimal(1875) / orders) < Decimal("0.000001")


def test_a_client_that_does_not_read_slows_no_other_and_goes_on_with_the_newest(
    stack: Servers, dsn: str, totals: Totals
) -> None:
    async def run() -> tuple[list[float], int, int]:
        totals.publish(0, 1)
        async with (
            served(stack, dsn, totals.topic) as url,
            connected(url) as fast,
            connected(url, sock=small_socket(url), max_queue=1, compression=None) as slow,
        ):
            for client in (fast, slow):
                await client.subscribe(WIDE)
                await client.next()
            delays = []
            for lines in range(2, 302):
                began = time.monotonic()
                await asyncio.to_thread(totals.publish, lines % SHARDS, lines, 0)
                await fast.until_lines(sum(totals.counted.values()))
                delays.append(time.monotonic() - began)
            # The slow one reads again: what lay in the buffers on the way, then the newest.
            seen, newest = 1, sum(totals.counted.values())
            while (await slow.next())["lines"] != newest:
                seen += 1
            return sorted(delays), seen, len(delays)

    delays, seen, published = asyncio.run(run())
    print(f"published to received: p50 {delays[150] * 1000:.0f} ms, p99 {delays[296] * 1000:.0f} ms")
    print(f"the slow client read {seen} of {published} messages")
    assert delays[296] < 0.5
    assert seen < published * 2 // 3


def small_socket(url: str) -> socket.socket:
    """A connection whose receiver takes little: a client that does not read shows at once."""
    made = socket.socket()
    made.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
    host, _, port = url.removeprefix("ws://").removesuffix("/graphql").partition(":")
    made.connect((host, int(port)))
    made.setblocking(False)
    return made


def test_the_sales_that_pass_the_filter_come_one_by_one(stack: Servers, dsn: str, totals: Totals) -> None:
    name = f"sub-{uuid.uuid4().hex[:8]}.sales.enriched.v1"
    topic, registry = load_topics()["sales.enriched.v1"], RegistryClient(stack.registry)
    schema_id, codec = registry.register(topic.subject, topic.schema_text), Codec(topic.schema_text, registry)
    admin = KafkaAdmin(stack.kafka)
    admin.ensure_topics([NewTopic(name, SHARDS)])
    admin.close()
    producer = KafkaProducer(stack.kafka)

    def produce(*ids: str) -> None:
        rows = [sale(event_id=each, country="EIRE" if each.startswith("i") else "France") for each in ids]
        values = codec.encode(pl.DataFrame(rows, schema=dict(codec.columns), orient="row"), schema_id)
        producer.produce([OutputBatch(name, values, [each.encode() for each in ids])], 30.0)

    async def run() -> list[str]:
        produce("i-before")
        url_of = served(stack, dsn, totals.topic, query_enriched_topic=name)
        async with url_of as url, connected(url) as client:
            await client.subscribe(
                'subscription { sales(filter: {country: "EIRE"}) { eventId country amount } }'
            )
            found: list[str] = []
            # The topic is followed from a moment after the subscription on: send until one arrives.
            first = asyncio.create_task(client.next("sales"))
            for attempt in range(200):
                await asyncio.to_thread(produce, f"f-{attempt}", f"i-{attempt}")
                done, _ = await asyncio.wait({first}, timeout=0.1)
                if done:
                    break
            found.append((await first)["eventId"])
            await asyncio.to_thread(produce, "i-last", "f-last")
            while found[-1] != "i-last":
                found.append((await client.next("sales"))["eventId"])
            return found

    found = asyncio.run(run())
    assert "i-before" not in found
    assert all(each.startswith("i-") for each in found)
    numbers = sorted(int(each.removeprefix("i-")) for each in found[:-1])
    assert numbers == list(range(numbers[0], numbers[0] + len(numbers)))
