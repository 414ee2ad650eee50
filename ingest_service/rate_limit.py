"""Requests per second and client, counted in Redis so that several instances share the count."""

from __future__ import annotations

import logging
import math
import time
from dataclasses import dataclass
from typing import Final, Protocol

from limits import RateLimitItemPerSecond
from limits.aio.strategies import SlidingWindowCounterRateLimiter
from limits.errors import StorageError
from limits.storage import storage_from_string

from ingest_service.metrics import Metrics

log = logging.getLogger(__name__)

_TIMEOUT_S: Final = 0.2
# While Redis does not answer it is asked this often, so that not every request waits for the timeout.
_RETRY_S: Final = 5.0


@dataclass(frozen=True, slots=True)
class Verdict:
    allowed: bool
    limit: int
    remaining: int
    reset_s: int

    def headers(self) -> dict[str, str]:
        """The fields of draft-ietf-httpapi-ratelimit-headers-07 in their separate form."""
        return {
            "RateLimit-Limit": str(self.limit),
            "RateLimit-Remaining": str(self.remaining),
            "RateLimit-Reset": str(self.reset_s),
        }


class RateLimiter(Protocol):
    async def hit(self, client: str) -> Verdict | None:
        """Count one request; None where nothing could be counted, which lets it through."""
        ...


class RedisRateLimiter:
    """Fails open: an outage of Redis must not stop sales from coming in."""

    def __init__(self, url: str, per_second: int, metrics: Metrics) -> None:
        storage = storage_from_string(
            f"async+{url}",
            implementation="redispy",
            wrap_exceptions=True,
            key_prefix="tillstream:ingest",
            socket_timeout=_TIMEOUT_S,
            socket_connect_timeout=_TIMEOUT_S,
        )
        self._limiter = SlidingWindowCounterRateLimiter(storage)
        self._item = RateLimitItemPerSecond(per_second)
        self._metrics = metrics
        self._retry_at = 0.0

    async def hit(self, client: str) -> Verdict | None:
        if time.monotonic() < self._retry_at:
            self._metrics.limiter_failures.inc()
            return None
        try:
            allowed = await self._limiter.hit(self._item, client)
            window = await self._limiter.get_window_stats(self._item, client)
        except StorageError as error:
            self._retry_at = time.monotonic() + _RETRY_S
            self._metrics.limiter_failures.inc()
            log.warning("rate limits are not counted: Redis does not answer", extra={"error": str(error)})
            return None
        reset_s = max(1, math.ceil(window.reset_time - time.time()))
        return Verdict(bool(allowed), self._item.amount, max(0, int(window.remaining)), reset_s)
