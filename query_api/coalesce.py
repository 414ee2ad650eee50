"""Sharing work between requests without ever answering with something older than the question."""

from __future__ import annotations

import asyncio
import itertools
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Hashable
from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeVar

T = TypeVar("T")


class HasSnapshot(Protocol):
    async def snapshot(self) -> str: ...


@dataclass(slots=True)
class _Run:
    """`began` is None until its work really begins: whoever comes before that may join."""

    task: asyncio.Task[Any] | None = None
    began: int | None = None


class Coalescer:
    """At most one run per key at a time. A caller gets the result of a run that began after its call:
    it joins no run that is under way, but all who wait for that one share the next."""

    def __init__(self) -> None:
        self._tick = itertools.count()
        self._runs: dict[Hashable, _Run] = {}

    async def run(self, key: Hashable, work: Callable[[], Awaitable[T]]) -> T:
        """Raises what `work` raised. One caller's cancellation does not reach the others."""
        arrived = next(self._tick)
        while True:
            run = self._runs.get(key) or self._start(key, work)
            assert run.task is not None, "set where the run is made"
            if run.began is None or run.began > arrived:
                result: T = await asyncio.shield(run.task)
                return result
            await asyncio.wait([run.task])

    def _start(self, key: Hashable, work: Callable[[], Awaitable[T]]) -> _Run:
        run = _Run()

        async def go() -> T:
            run.began = next(self._tick)
            try:
                return await work()
            finally:
                del self._runs[key]

        run.task = asyncio.create_task(go())
        # Retrieved even if every caller has gone, or asyncio would log it as lost.
        run.task.add_done_callback(lambda task: task.cancelled() or task.exception())
        self._runs[key] = run
        return run


@dataclass(frozen=True, slots=True)
class _Entry(Generic[T]):
    snapshot: str
    value: T


class SnapshotCache:
    """Keeps answers for as long as Postgres' snapshot is the one they were computed under.

    Protocol of a look-up:
    1. read the snapshot (shared between concurrent requests, never one from before the request);
    2. if the entry was computed under it, no transaction has become visible since: answer it;
    3. else read the snapshot again, compute, and keep the answer under that snapshot. What is computed
       may already be newer than the snapshot it is kept under; it can then only be missed, because a
       snapshot that has passed never returns.
    """

    def __init__(
        self,
        store: HasSnapshot,
        counted: Callable[[str], None] = lambda _: None,
        *,
        max_entries: int = 512,
        max_items: int = 2_000,
    ) -> None:
        """`counted` is told "hit" or "miss". Lists longer than `max_items` are not kept."""
        self._store = store
        self._counted = counted
        self._max_entries = max_entries
        self._max_items = max_items
        self._shared = Coalescer()
        self._entries: OrderedDict[Hashable, _Entry[Any]] = OrderedDict()

    async def get(self, key: Hashable, compute: Callable[[], Awaitable[T]]) -> T:
        now = await self._shared.run(("snapshot",), self._store.snapshot)
        entry = self._entries.get(key)
        if entry is not None and entry.snapshot == now:
            self._entries.move_to_end(key)
            self._counted("hit")
            value: T = entry.value
            return value

        async def fill() -> T:
            self._counted("miss")
            under = await self._store.snapshot()
            found = await compute()
            if not isinstance(found, list) or len(found) <= self._max_items:
                self._entries[key] = _Entry(under, found)
                self._entries.move_to_end(key)
                while len(self._entries) > self._max_entries:
                    self._entries.popitem(last=False)
            return found

        return await self._shared.run(("entry", key), fill)
