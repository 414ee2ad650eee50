"""Shared work is never older than the question."""

from __future__ import annotations

import asyncio
from collections import Counter

import pytest

from query_api.coalesce import Coalescer, SnapshotCache


class World:
    """A value behind a snapshot; reading it takes a moment, in which it may change."""

    def __init__(self) -> None:
        self.value = 0
        self.reads = 0
        self.gate = asyncio.Event()
        self.gate.set()

    async def snapshot(self) -> str:
        await asyncio.sleep(0)
        return str(self.value)

    async def read(self) -> int:
        self.reads += 1
        found = self.value
        await self.gate.wait()
        return found


def test_callers_share_the_next_run_and_never_one_under_way() -> None:
    async def run() -> None:
        world, shared = World(), Coalescer()
        world.gate.clear()
        first = asyncio.create_task(shared.run("k", world.read))
        while world.reads == 0:
            await asyncio.sleep(0)
        world.value = 1
        later = [asyncio.create_task(shared.run("k", world.read)) for _ in range(5)]
        await asyncio.sleep(0)
        world.gate.set()
        assert await first == 0
        assert await asyncio.gather(*later) == [1] * 5
        assert world.reads == 2

    asyncio.run(run())


def test_failure_reaches_all_who_share_it_and_is_not_kept() -> None:
    async def run() -> None:
        shared, runs = Coalescer(), Counter[str]()

        async def fail() -> int:
            runs["fail"] += 1
            await asyncio.sleep(0)
            raise RuntimeError("no")

        async def work() -> int:
            return 7

        tasks = [asyncio.create_task(shared.run("k", fail)) for _ in range(3)]
        results = await asyncio.gather(*tasks, return_exceptions=True)
        assert all(isinstance(result, RuntimeError) for result in results)
        assert runs["fail"] == 1
        assert await shared.run("k", work) == 7

    asyncio.run(run())


def test_one_callers_cancellation_does_not_reach_the_others() -> None:
    async def run() -> None:
        world, shared = World(), Coalescer()
        world.gate.clear()
        leaving, staying = (asyncio.create_task(shared.run("k", world.read)) for _ in range(2))
        await asyncio.sleep(0)
        leaving.cancel()
        with pytest.raises(asyncio.CancelledError):
            await leaving
        world.gate.set()
        assert await staying == 0

    asyncio.run(run())


def test_same_snapshot_is_answered_from_memory_and_another_is_not() -> None:
    async def run() -> None:
        world, counted = World(), Counter[str]()
        cache = SnapshotCache(world, lambda result: counted.update([result]))
        assert [await cache.get("k", world.read) for _ in range(3)] == [0, 0, 0]
        world.value = 1
        assert [await cache.get("k", world.read) for _ in range(3)] == [1, 1, 1]
        assert world.reads == 2
        assert counted == {"hit": 4, "miss": 2}

    asyncio.run(run())


def test_change_during_the_computation_is_seen_by_the_next_question() -> None:
    async def run() -> None:
        world = World()
        cache = SnapshotCache(world)
        world.gate.clear()
        slow = asyncio.create_task(cache.get("k", world.read))
        while world.reads == 0:
            await asyncio.sleep(0)
        world.value = 1
        world.gate.set()
        assert await slow == 0
        assert await cache.get("k", world.read) == 1

    asyncio.run(run())


def test_cache_is_bounded_in_entries_and_in_the_size_of_one() -> None:
    async def run() -> None:
        world = World()
        cache = SnapshotCache(world, max_entries=2, max_items=3)

        async def long() -> list[int]:
            world.reads += 1
            return [1, 2, 3, 4]

        for key in ("a", "b", "c", "a"):
            await cache.get(key, world.read)
        assert world.reads == 4, "the oldest entry had to go"
        for _ in range(2):
            await cache.get("long", long)
        assert world.reads == 6, "a long list is not kept"

    asyncio.run(run())
