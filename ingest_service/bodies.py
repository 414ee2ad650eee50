"""Reading request bodies within their bounds: of size, of what is held at one time, and of time."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Final

from anyio import to_thread
from fastapi import Request

from ingest_service.admission import Reservation
from ingest_service.jobs import Upload
from ingest_service.json_body import BOM
from ingest_service.problems import Problem

# A client that sends nothing for so long holds its place no longer.
_SILENCE_S: Final = 30.0
_WRITE_BYTES: Final = 1 << 20


async def read(request: Request, limit: int, reservation: Reservation) -> bytes:
    """The body without a byte order mark. Raises `Problem` 408, 413 or 415, and `Busy`; what is too large is
    not read to its end."""
    _refuse_encodings(request)
    announced = _announced(request, limit)
    reservation.grow(announced)
    parts, size = [], 0
    async for part in _parts(request):
        size += len(part)
        if size > limit:
            raise too_large(limit)
        reservation.grow(size)
        parts.append(part)
    return b"".join(parts).removeprefix(BOM)


async def spool(request: Request, limit: int, upload: Upload) -> None:
    """The body to disk, durable when this returns. Raises `Problem` 408, 413, 415 or 507."""
    _refuse_encodings(request)
    _announced(request, limit)
    held, size = bytearray(), 0
    try:
        async for part in _parts(request):
            size += len(part)
            if size > limit:
                raise too_large(limit)
            held += part
            if len(held) >= _WRITE_BYTES:
                await to_thread.run_sync(upload.write, bytes(held))
                held.clear()
        await to_thread.run_sync(upload.write, bytes(held))
        await to_thread.run_sync(upload.complete)
    except OSError as error:
        raise Problem(507, f"the file cannot be stored: {error.strerror}") from error


def too_large(limit: int) -> Problem:
    # The rest of the body is not read, so the connection cannot be used again.
    return Problem(
        413, f"the body is larger than {limit} bytes; send it in parts", headers={"Connection": "close"}
    )


def _announced(request: Request, limit: int) -> int:
    length = request.headers.get("content-length", "0")
    announced = int(length) if length.isdigit() else 0
    if announced > limit:
        raise too_large(limit)
    return announced


def _refuse_encodings(request: Request) -> None:
    encoding = request.headers.get("content-encoding", "identity")
    if encoding != "identity":
        raise Problem(415, f"Content-Encoding {encoding[:40]} is not read; send the body as it is")


async def _parts(request: Request) -> AsyncIterator[bytes]:
    stream = request.stream().__aiter__()
    while True:
        try:
            async with asyncio.timeout(_SILENCE_S):
                yield await anext(stream)
        except StopAsyncIteration:
            return
        except TimeoutError as error:
            raise Problem(408, f"no byte came for {_SILENCE_S:.0f} seconds") from error
