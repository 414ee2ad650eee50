"""Handing what happens now to many clients at their own pace. Belongs to the event loop's thread.

A client's generator goes on only after its last message is written: a WebSocket that does not take more waits
there. So a slow client slows nobody, as long as nothing is kept for it without a bound. Two ways:

    Latest    there is one value, and a client gets the newest when it comes round; those between are left out
    Queue     every item counts; a client that falls too far behind is told so and let go
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Generic, TypeVar

from query_api.errors import TooMuchError, TooSlowError

T = TypeVar("T")


class Seats:
    """At most so many clients at a time."""

    def __init__(self, limit: int, counted: Callable[[int], None] = lambda _: None) -> None:
        """`counted` is told how many are taken."""
        self._limit = limit
        self._counted = counted
        self._taken = 0

    @contextmanager
    def seat(self) -> Iterator[None]:
        """Raises `TooMuchError`."""
        if self._taken >= self._limit:
            raise TooMuchError(f"{self._limit} subscriptions are open already: try again later")
        self._taken += 1
        self._counted(self._taken)
        try:
            yield
        finally:
            self._taken -= 1
            self._counted(self._taken)


class Latest(Generic[T]):
    """One value and its changes."""

    def __init__(self) -> None:
        self._value: T | None = None
        self._version = 0
        self._changed = asyncio.Event()

    def publish(self, value: T) -> None:
        """A value equal to the present one changes nothing."""
        if value == self._value:
            return
        self._value = value
        self._version += 1
        # Whoever waits is woken by this event; whoever comes later waits for the next.
        self._changed.set()
        self._changed = asyncio.Event()

    async def first(self, timeout_s: float) -> T | None:
        """The value, once there is one; None after `timeout_s`."""
        if self._value is None:
            await self._wait(timeout_s)
        return self._value

    async def follow(self, interval_s: Callable[[], float], heartbeat_s: float) -> AsyncGenerator[T, None]:
        """The present value, then the newest one whenever it has changed, at most every `interval_s`; after
        `heartbeat_s` without a change the same once more, so that a client knows that it is still heard."""
        while True:
            seen = self._version
            if self._value is not None:
                yield self._value
            await asyncio.sleep(interval_s())
            if self._version == seen:
                await self._wait(heartbeat_s)

    async def _wait(self, timeout_s: float) -> None:
        try:
            async with asyncio.timeout(timeout_s):
                await self._changed.wait()
        except TimeoutError:
            return


class Queue(Generic[T]):
    """What waits for one client."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._items: deque[T] = deque()
        self._filled = asyncio.Event()
        self._overrun = False

    def put(self, items: Sequence[T]) -> None:
        """Items beyond the limit are not kept, and the client learns of it."""
        if len(self._items) + len(items) > self._limit:
            self._overrun = True
        elif not self._overrun:
            self._items.extend(items)
        self._filled.set()

    async def drain(self) -> AsyncGenerator[T, None]:
        """Raises `TooSlowError` once what was kept is handed out and something after it was not."""
        while True:
            while self._items:
                yield self._items.popleft()
            if self._overrun:
                raise TooSlowError(
                    f"more than {self._limit} sales were waiting for this client: some would be missing"
                )
            self._filled.clear()
            await self._filled.wait()
