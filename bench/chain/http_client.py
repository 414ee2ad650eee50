"""A small HTTP/1.1 client for the load: POST, and the status of the answer.

httpx was tried: at 50 requests a second and 3 s an answer it took 11 s of CPU for 15 s of load, and its pool
held requests back, so that the load was no open loop. This one opens a connection whenever none is idle.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Final
from urllib.parse import urlsplit

_MAX_HEAD: Final = 1 << 16


class Client:
    """Belongs to one event loop. Raises `OSError` or `EOFError` where there is no whole answer."""

    def __init__(self, url: str, headers: Mapping[str, str]) -> None:
        parts = urlsplit(url)
        self._host, self._port = parts.hostname or "127.0.0.1", parts.port or 80
        target = f"{parts.path}?{parts.query}" if parts.query else parts.path
        lines = [f"POST {target} HTTP/1.1", f"Host: {self._host}:{self._port}"]
        lines += [f"{name}: {value}" for name, value in headers.items()]
        self._head = "\r\n".join(lines).encode()
        self._idle: list[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = []

    async def post(self, body: bytes) -> int:
        """The status of the answer."""
        reader, writer = self._idle.pop() if self._idle else await self._connect()
        try:
            writer.write(self._head + f"\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body)
            status, keep = await self._answer(reader)
        except BaseException:
            writer.close()
            raise
        if keep:
            self._idle.append((reader, writer))
        else:
            writer.close()
        return status

    def close(self) -> None:
        for _, writer in self._idle:
            writer.close()

    async def _connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        return await asyncio.open_connection(self._host, self._port, limit=_MAX_HEAD)

    @staticmethod
    async def _answer(reader: asyncio.StreamReader) -> tuple[int, bool]:
        """Status, and whether the connection may be used again: only where the body's end is known."""
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        fields = {
            name.lower(): value.strip() for name, _, value in (line.partition(":") for line in head[1:])
        }
        status = int(head[0].split()[1])
        if "content-length" not in fields:
            return status, False
        await reader.readexactly(int(fields["content-length"]))
        return status, fields.get("connection", "").lower() != "close"
