"""The adapter to the platform's other services: the stages' `/stats` and the ledger."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Hashable, Mapping
from dataclasses import dataclass, replace
from typing import Any, TypeVar
from urllib.parse import quote

import httpx

from query_api.coalesce import Coalescer
from query_api.errors import UpstreamUnavailableError
from query_api.types import Ledger, Stage

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class _Kept:
    until: float
    value: Any


@dataclass(frozen=True, slots=True)
class _Lag:
    records: int
    seconds: float | None


class Platform:
    """Asks other services over HTTP. Times are in seconds.

    Drawing a balance reads every store, so all who ask within `ledger_ttl` share one; a stage's figures
    are shared for `stage_ttl`.
    """

    def __init__(
        self,
        client: httpx.AsyncClient,
        stages: Mapping[str, str],
        ledger_url: str | None,
        *,
        lag_url: str | None = None,
        stage_timeout: float = 0.8,
        ledger_timeout: float = 15.0,
        event_timeout: float = 2.0,
        stage_ttl: float = 0.25,
        ledger_ttl: float = 0.5,
    ) -> None:
        self._client = client
        self._stages = dict(stages)
        self._ledger_url = ledger_url.rstrip("/") if ledger_url else None
        self._lag_url = lag_url.rstrip("/") if lag_url else None
        self._stage_timeout = stage_timeout
        self._ledger_timeout = ledger_timeout
        self._event_timeout = event_timeout
        self._stage_ttl = stage_ttl
        self._ledger_ttl = ledger_ttl
        self._shared = Coalescer()
        self._kept: dict[Hashable, _Kept] = {}

    async def stages(self) -> list[Stage]:
        """In the order of the settings; one that does not answer is "stopped". Lag is the lag exporter's
        where that answers, so that a stage that stands still has one too."""

        async def ask_all() -> list[Stage]:
            lags, stages = await asyncio.gather(
                self._lags(), asyncio.gather(*(self._stage(n, url) for n, url in self._stages.items()))
            )
            return [_with_lag(stage, lags.get(f"tillstream.{stage.name}")) for stage in stages]

        return await self._recent("stages", self._stage_ttl, ask_all)

    async def ledger(self) -> Ledger:
        """Raises `UpstreamUnavailableError`."""
        return await self._recent("ledger", self._ledger_ttl, self._ledger)

    async def event(self, event_id: str) -> dict[str, Any] | None:
        """What the ledger knows of an event: {event_id, status, reason, hops}, or None.
        Raises `UpstreamUnavailableError`."""
        answer = await self._ask_ledger(f"/events/{quote(event_id, safe='')}", self._event_timeout)
        if answer.status_code == httpx.codes.NOT_FOUND:
            return None
        body: dict[str, Any] = _json_object(answer)
        return body

    async def close(self) -> None:
        await self._client.aclose()

    async def _ledger(self) -> Ledger:
        body = _json_object(await self._ask_ledger("/ledger", self._ledger_timeout))
        try:
            return Ledger(
                accepted=int(body["accepted"]),
                duplicates=int(body["duplicates"]),
                quarantined=int(body["quarantined"]),
                resolved=int(body["resolved"]),
                in_flight=int(body["in_flight"]),
                balanced=bool(body["balanced"]),
            )
        except (KeyError, TypeError, ValueError) as error:
            raise UpstreamUnavailableError("the ledger's answer lacks a figure") from error

    async def _ask_ledger(self, path: str, timeout_s: float) -> httpx.Response:
        if self._ledger_url is None:
            raise UpstreamUnavailableError("no ledger is configured (TILLSTREAM_LEDGER_URL)")
        try:
            return await self._client.get(self._ledger_url + path, timeout=timeout_s)
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise UpstreamUnavailableError("the ledger does not answer") from error

    async def _stage(self, name: str, url: str) -> Stage:
        try:
            answer = await self._client.get(url.rstrip("/") + "/stats", timeout=self._stage_timeout)
            body = _json_object(answer)
            return Stage(
                name=name,
                state=str(body.get("state", "degraded")),
                lag=_number(int, body.get("lag")),
                lag_seconds=_number(float, body.get("lag_seconds")),
                p50_ms=_number(float, body.get("p50_ms")),
                p99_ms=_number(float, body.get("p99_ms")),
            )
        except (httpx.HTTPError, httpx.InvalidURL, UpstreamUnavailableError, ValueError, TypeError):
            return Stage(name=name, state="stopped", lag=None, lag_seconds=None, p50_ms=None, p99_ms=None)

    async def _lags(self) -> dict[str, _Lag]:
        """By consumer group; empty where the exporter does not answer."""
        if self._lag_url is None:
            return {}
        try:
            body = _json_object(await self._client.get(f"{self._lag_url}/lag", timeout=self._stage_timeout))
            return {
                str(group["group"]): _Lag(int(group["lag"]), _number(float, group["lag_seconds"]))
                for group in body["groups"]
            }
        except (
            *(httpx.HTTPError, httpx.InvalidURL, UpstreamUnavailableError),
            *(KeyError, ValueError, TypeError),
        ):
            return {}

    async def _recent(self, key: str, ttl: float, work: Callable[[], Awaitable[T]]) -> T:
        kept = self._kept.get(key)
        if kept is not None and time.monotonic() < kept.until:
            value: T = kept.value
            return value

        async def fill() -> T:
            found = await work()
            self._kept[key] = _Kept(time.monotonic() + ttl, found)
            return found

        return await self._shared.run(key, fill)


def _json_object(answer: httpx.Response) -> dict[str, Any]:
    if answer.status_code != httpx.codes.OK:
        raise UpstreamUnavailableError(f"a service behind this API answered {answer.status_code}")
    try:
        body = answer.json()
    except ValueError as error:
        raise UpstreamUnavailableError("a service behind this API did not answer in JSON") from error
    if not isinstance(body, dict):
        raise UpstreamUnavailableError("a service behind this API did not answer with an object")
    return body


def _with_lag(stage: Stage, lag: _Lag | None) -> Stage:
    return stage if lag is None else replace(stage, lag=lag.records, lag_seconds=lag.seconds)


def _number(kind: Callable[[Any], T], value: Any) -> T | None:
    return None if value is None else kind(value)
