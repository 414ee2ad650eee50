"""The adapter to ingest: mended items go in by the door of every sale."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any, Final

import httpx

from query_api.errors import UpstreamUnavailableError
from query_api.quarantine.mending import Mended

_TIMEOUT_S: Final = 60.0
_PATIENCE_S: Final = 120.0
_WAIT_S: Final = 0.5
_PASSING: Final = (429, 502, 503, 504)


class Door:
    def __init__(self, client: httpx.AsyncClient, ingest_url: str | None) -> None:
        self._client = client
        self._url = None if ingest_url is None else f"{ingest_url.rstrip('/')}/v1/replays/sales"

    async def send(self, replay_id: str, items: Sequence[Mended]) -> dict[str, Any]:
        """Ingest's answer: `accepted`, `quarantined` (those that cannot be read still). Waits for an ingest
        that is busy or away; sending again is harmless, repeats are recognised.

        Raises `UpstreamUnavailableError`.
        """
        if self._url is None:
            raise UpstreamUnavailableError("no ingest is configured (TILLSTREAM_INGEST_URL)")
        body = b"\n".join(item.line() for item in items)
        deadline = asyncio.get_running_loop().time() + _PATIENCE_S
        while True:
            try:
                answer = await self._client.post(
                    self._url,
                    params={"load_id": replay_id},
                    content=body,
                    headers={"Content-Type": "application/x-ndjson"},
                    timeout=_TIMEOUT_S,
                )
                if answer.status_code not in _PASSING:
                    return _accepted(answer)
                reason = f"ingest answered {answer.status_code}"
            except httpx.HTTPError as error:
                reason = f"ingest does not answer ({type(error).__name__})"
            if asyncio.get_running_loop().time() > deadline:
                raise UpstreamUnavailableError(reason)
            await asyncio.sleep(_WAIT_S)


def _accepted(answer: httpx.Response) -> dict[str, Any]:
    if answer.status_code != httpx.codes.ACCEPTED:
        raise UpstreamUnavailableError(f"ingest refused the replay: {answer.status_code} {answer.text[:300]}")
    body: dict[str, Any] = answer.json()
    return body
