"""The adapter to quality's guard against a bad deployment."""

from __future__ import annotations

from typing import Any, Final

import httpx

from query_api.errors import UpstreamUnavailableError

_TIMEOUT_S: Final = 5.0


class Guard:
    def __init__(self, client: httpx.AsyncClient, quality_url: str | None) -> None:
        self._client = client
        self._url = None if quality_url is None else quality_url.rstrip("/")

    async def told(self) -> dict[str, Any]:
        """Version, since when, which partitions are paused and why, and what is let through."""
        return await self._ask("GET", "/guard")

    async def allow(self, reason: str | None, who: str) -> dict[str, Any]:
        """Let records with this reason through (None: with any), as long as the version runs."""
        return await self._ask("POST", "/guard/allow", {"reason": reason, "by": who})

    async def _ask(self, method: str, path: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
        """Raises `UpstreamUnavailableError`."""
        if self._url is None:
            raise UpstreamUnavailableError("quality's URL is not configured (TILLSTREAM_STAGES)")
        try:
            answer = await self._client.request(method, self._url + path, json=body, timeout=_TIMEOUT_S)
            answer.raise_for_status()
            told: dict[str, Any] = answer.json()
        except (httpx.HTTPError, ValueError) as error:
            raise UpstreamUnavailableError("quality does not answer") from error
        return told
