"""A WebSocket client in the test's own process, which takes messages only when it wants to."""

from __future__ import annotations

import asyncio
import json
from typing import Any

from fastapi import FastAPI

PROTOCOL = "graphql-transport-ws"


class Socket:
    """Speaks to the application by ASGI, so that nothing between them buffers: a client that does not take a
    message leaves the application waiting in `send`."""

    def __init__(self, app: FastAPI) -> None:
        self._app = app
        self._incoming: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        self._changed = asyncio.Condition()
        self._task: asyncio.Task[None] | None = None
        self.taking = asyncio.Event()
        self.taking.set()
        self.messages: list[dict[str, Any]] = []

    async def subscribe(self, query: str, **variables: Any) -> None:
        if self._task is None:
            self._incoming.put_nowait({"type": "websocket.connect"})
            self._task = asyncio.create_task(self._app(_SCOPE.copy(), self._incoming.get, self._send))
            self._say({"type": "connection_init"})
            await self.wait_for(1)
            assert self.messages.pop() == {"type": "connection_ack"}
        self._say({"id": "1", "type": "subscribe", "payload": {"query": query, "variables": variables}})

    async def wait_for(self, count: int, timeout_s: float = 5.0) -> None:
        """Until that many messages have come."""
        async with asyncio.timeout(timeout_s), self._changed:
            await self._changed.wait_for(lambda: len(self.messages) >= count)

    async def wait_until(self, last: Any, timeout_s: float = 5.0) -> None:
        """Until the last message carries this data."""
        async with asyncio.timeout(timeout_s), self._changed:
            await self._changed.wait_for(lambda: bool(self.messages) and self.data()[-1] == last)

    def data(self) -> list[Any]:
        return [message["payload"]["data"] for message in self.messages if message["type"] == "next"]

    def codes(self) -> list[str]:
        """Of all errors told."""
        found = []
        for message in self.messages:
            payload = message.get("payload") or {}
            errors = payload if message["type"] == "error" else payload.get("errors") or []
            found += [error["extensions"]["code"] for error in errors]
        return found

    async def close(self) -> None:
        assert self._task is not None
        self.taking.set()
        self._incoming.put_nowait({"type": "websocket.disconnect", "code": 1000})
        await self._task

    def _say(self, message: dict[str, Any]) -> None:
        self._incoming.put_nowait({"type": "websocket.receive", "text": json.dumps(message)})

    async def _send(self, message: Any) -> None:
        await self.taking.wait()
        if message["type"] == "websocket.send":
            async with self._changed:
                self.messages.append(json.loads(message["text"]))
                self._changed.notify_all()


_SCOPE: dict[str, Any] = {
    "type": "websocket",
    "asgi": {"version": "3.0"},
    "scheme": "ws",
    "path": "/graphql",
    "raw_path": b"/graphql",
    "query_string": b"",
    "headers": [(b"sec-websocket-protocol", PROTOCOL.encode())],
    "subprotocols": [PROTOCOL],
    "server": ("query", 80),
    "client": ("client", 1),
    "state": {},
}
