"""Postgres goes away and comes back: a clear 503 meanwhile, and recovery without help."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import asyncpg
import pytest

from query_api.errors import TooMuchError
from query_api.metrics import Metrics
from query_api.postgres import Store
from streamkit.telemetry import StageStats
from tests.integration.query_api_harness import Client, client, database

QUESTION = {"query": "{kpis{lines}}"}


class Line:
    """A TCP line to Postgres that can be cut, and that can fall silent."""

    def __init__(self, dsn: str) -> None:
        parts = urlsplit(dsn)
        self._there = (parts.hostname, parts.port)
        self._parts = parts
        self._port = 0
        self._server: asyncio.Server | None = None
        self._open: set[asyncio.StreamWriter] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self.silent = False

    async def up(self) -> None:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", self._port)
        self._port = self._server.sockets[0].getsockname()[1]

    async def cut(self) -> None:
        assert self._server is not None
        self._server.close()
        for writer in self._open:
            writer.transport.abort()
        self._open.clear()

    @property
    def dsn(self) -> str:
        netloc = f"{self._parts.netloc.rpartition('@')[0]}@127.0.0.1:{self._port}"
        return urlunsplit(self._parts._replace(netloc=netloc.lstrip("@")))

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        far_reader, far_writer = await asyncio.open_connection(*self._there)
        self._open |= {writer, far_writer}
        for source, target in ((reader, far_writer), (far_reader, writer)):
            task = asyncio.create_task(self._pump(source, target))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _pump(self, source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while data := await source.read(65536):
                while self.silent:
                    await asyncio.sleep(0.01)
                target.write(data)
        target.close()


@pytest.fixture
def dsn(stack: Any) -> Iterator[str]:
    with database(stack.postgres) as made:
        yield made


async def _until(api: Client, path: str, status: int) -> None:
    async with asyncio.timeout(15):
        while (await api.http.get(path)).status_code != status:
            await asyncio.sleep(0.05)


def test_outage_is_answered_503_and_ends_by_itself(dsn: str) -> None:
    async def run() -> None:
        line = Line(dsn)
        await line.up()
        async with client(line.dsn) as api:
            assert (await api.http.post("/graphql", json=QUESTION)).status_code == 200
            assert (await api.http.get("/ready")).status_code == 200
            await line.cut()

            down = await api.http.post("/graphql", json=QUESTION)
            assert down.status_code == 503
            assert down.headers["content-type"] == "application/problem+json"
            assert down.headers["retry-after"] == "1"
            body = down.json()
            assert (body["status"], body["code"]) == (503, "STORE_UNAVAILABLE")
            assert body["errors"][0]["extensions"]["code"] == "STORE_UNAVAILABLE"
            rest = await api.http.get("/api/v2/analytics/kpis")
            assert (rest.status_code, rest.json()["code"]) == (503, "STORE_UNAVAILABLE")
            assert (await api.http.get("/ready")).status_code == 503
            assert (await api.http.get("/health")).status_code == 200
            stages = await api.http.post("/graphql", json={"query": "{pipeline{stages{name}}}"})
            assert (stages.status_code, stages.json()) == (200, {"data": {"pipeline": {"stages": []}}})

            await line.up()
            await _until(api, "/ready", 200)
            up = await api.http.post("/graphql", json=QUESTION)
            assert (up.status_code, up.json()) == (200, {"data": {"kpis": {"lines": 0}}})
            await line.cut()

    asyncio.run(run())


def test_postgres_that_is_silent_is_answered_503_in_time(dsn: str) -> None:
    async def run() -> None:
        line = Line(dsn)
        await line.up()
        async with client(line.dsn, query_statement_timeout=0.5) as api:
            assert (await api.http.post("/graphql", json=QUESTION)).status_code == 200
            line.silent = True
            async with asyncio.timeout(10):
                assert (await api.http.post("/graphql", json=QUESTION)).status_code == 503
            line.silent = False
            await _until(api, "/ready", 200)
            assert (await api.http.post("/graphql", json=QUESTION)).status_code == 200
            await line.cut()

    asyncio.run(run())


def test_service_starts_without_postgres_and_without_tables(stack: Any) -> None:
    async def run(empty: str) -> None:
        async with client("postgresql://nobody@127.0.0.1:1/none") as api:
            assert (await api.http.get("/health")).status_code == 200
            assert (await api.http.get("/ready")).status_code == 503
            assert (await api.http.get("/")).status_code == 200
        async with client(empty) as api:
            ready = await api.http.get("/ready")
            assert (ready.status_code, "tables" in ready.json()["reason"]) == (503, True)

    with database(stack.postgres, tables=False) as empty:
        asyncio.run(run(empty))


def test_slow_statement_is_refused_with_advice(dsn: str) -> None:
    async def run() -> None:
        store = Store(dsn, Metrics(StageStats("query")), statement_timeout=0.05)
        with pytest.raises(TooMuchError, match="shorter range"):
            await store.rows("SELECT pg_sleep(5)")
        with pytest.raises(asyncpg.ReadOnlySQLTransactionError):
            await store.rows("CREATE TABLE warehouse.oops (a int)")
        assert (await store.rows("SELECT 1"))[0][0] == 1
        await store.close()

    asyncio.run(run())
