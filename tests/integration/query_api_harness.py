"""The query service in this process, asked over its real routes, on a database of its own."""

from __future__ import annotations

import asyncio
import contextlib
import uuid
from collections.abc import AsyncIterator, Iterator
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import asyncpg
import httpx

from deploy.postgres.migrate import migrate
from query_api.bootstrap import build
from query_api.settings import QuerySettings


class Client:
    """Asks and expects an answer."""

    def __init__(self, http: httpx.AsyncClient) -> None:
        self.http = http

    async def ask(self, query: str, **variables: Any) -> dict[str, Any]:
        answer = await self.http.post("/graphql", json={"query": query, "variables": variables})
        body = answer.json()
        assert "errors" not in body, body["errors"]
        data: dict[str, Any] = body["data"]
        return data

    async def rest(self, path: str, **params: str) -> Any:
        answer = await self.http.get(f"/api/v2/analytics/{path}", params=params)
        assert answer.status_code == 200, answer.text
        return answer.json()


@contextlib.asynccontextmanager
async def client(dsn: str, **settings: Any) -> AsyncIterator[Client]:
    app = build(QuerySettings(postgres=dsn, **settings))
    transport = httpx.ASGITransport(app=app)
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=transport, base_url="http://query") as http,
    ):
        yield Client(http)


@contextlib.contextmanager
def database(server: str, *, tables: bool = True) -> Iterator[str]:
    """The DSN of a new database on this server, migrated unless it is to have no tables."""
    name = f"query_{uuid.uuid4().hex[:12]}"
    asyncio.run(_execute(server, f"CREATE DATABASE {name}"))
    try:
        dsn = urlunsplit(urlsplit(server)._replace(path=f"/{name}"))
        if tables:
            asyncio.run(migrate(dsn))
        yield dsn
    finally:
        asyncio.run(_execute(server, f"DROP DATABASE {name} WITH (FORCE)"))


async def _execute(dsn: str, statement: str) -> None:
    connection = await asyncpg.connect(dsn)
    try:
        await connection.execute(statement)
    finally:
        await connection.close()
