"""How much is worked on at one time, so that a crowd gets a quick 503 and not an exhausted process."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from prometheus_client import Gauge


class Busy(Exception):  # noqa: N818 - an answer, not a fault
    """A bound is reached; the message says which."""


class Admission:
    """For one event loop: nothing here is awaited, so nothing is locked."""

    def __init__(self, max_requests: int, max_bytes: int, gauge: Gauge) -> None:
        self._max_requests = max_requests
        self._max_bytes = max_bytes
        self._gauge = gauge
        self._requests = 0
        self._bytes = 0

    @contextmanager
    def request(self) -> Iterator[Reservation]:
        """Raises `Busy` when too many requests are under way."""
        if self._requests >= self._max_requests:
            raise Busy(f"{self._max_requests} requests are under way")
        self._requests += 1
        reservation = Reservation(self)
        try:
            yield reservation
        finally:
            self._requests -= 1
            self._add(-reservation.held)

    def reserve(self, size: int) -> None:
        if self._bytes + size > self._max_bytes:
            raise Busy(f"{self._max_bytes} bytes of bodies are held at most")
        self._add(size)

    def _add(self, size: int) -> None:
        self._bytes += size
        self._gauge.set(self._bytes)


class Reservation:
    """The bytes of one request; given back when it ends."""

    def __init__(self, admission: Admission) -> None:
        self._admission = admission
        self.held = 0

    def grow(self, total: int) -> None:
        """Hold `total` bytes in all. Raises `Busy`."""
        if total > self.held:
            self._admission.reserve(total - self.held)
            self.held = total
