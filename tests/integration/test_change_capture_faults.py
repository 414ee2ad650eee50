"""Change capture under kills, under changes of a table, and with an idle source: on servers of its own."""

from __future__ import annotations

import asyncio
import json
import os
import random
import signal
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import asyncpg
import pytest

from deploy.local import lifecycle, toolchain
from deploy.local.layout import Layout
from deploy.local.ports import free_base
from deploy.local.progress import Steps
from deploy.local.stack import SERVERS, Stack
from deploy.local.supervision import Supervisor
from deploy.local.testing import temporary_home, tools_folder
from tests.integration.cdc_topics import Step, Topics, faults, final_rows, metric, steps

pytestmark = pytest.mark.long

TABLES = ("customers", "products", "stock_levels", "price_list")
_ONLY = (*SERVERS, "connect", "connectors")


@dataclass
class World:
    stack: Stack

    @property
    def dsn(self) -> str:
        return str(self.stack.urls()["postgres"])

    def run(self, *statements: str) -> None:
        async def execute() -> None:
            db = await asyncpg.connect(self.dsn)
            try:
                for statement in statements:
                    await db.execute(statement)
            finally:
                await db.close()

        asyncio.run(execute())

    def rows(self, sql: str) -> list[dict[str, Any]]:
        async def fetch() -> list[dict[str, Any]]:
            db = await asyncpg.connect(self.dsn)
            try:
                return [dict(row) for row in await db.fetch(sql)]
            finally:
                await db.close()

        return asyncio.run(fetch())

    def topics(self) -> Topics:
        urls = self.stack.urls()
        return Topics(str(urls["kafka"]), str(urls["registry"]), TABLES)

    def kill(self, name: str) -> None:
        """SIGKILL, and until supervisord has started it again under another pid."""
        supervisor = Supervisor(self.stack.layout)
        pid = supervisor.process(name).pid
        assert pid is not None
        os.kill(pid, signal.SIGKILL)
        self.wait(lambda: supervisor.process(name).pid not in (None, pid), 60, lambda: f"{name} stays down")

    def health(self) -> tuple[str, str]:
        found = self.stack.program("connectors").probe()
        return found.state, found.reason or ""

    def wait(self, condition: Callable[[], bool], within_s: float, what: Callable[[], object]) -> None:
        deadline = time.monotonic() + within_s
        while not condition():
            assert time.monotonic() < deadline, f"not within {within_s} s: {what()}"
            time.sleep(0.2)

    def wait_ready(self, within_s: float = 120) -> None:
        self.wait(lambda: self.health()[0] == "ready", within_s, self.health)

    def metrics(self) -> str:
        with urllib.request.urlopen(f"{self.stack.ports.url('connectors')}/metrics", timeout=5) as answer:
            return str(answer.read(), "utf-8")

    def connect(self, method: str, path: str) -> None:
        url = f"{self.stack.ports.url('connect')}{path}"
        urllib.request.urlopen(urllib.request.Request(url, method=method), timeout=20).close()


@pytest.fixture(scope="module")
def world() -> Iterator[World]:
    with temporary_home("cdc") as home:
        layout = Layout(home, tools_folder()).create()
        with Steps() as progress:
            stack = Stack.build(layout, free_base(_ONLY), toolchain.ensure(layout, progress), _ONLY)
            lifecycle.up(stack, progress)
        try:
            yield World(stack)
        finally:
            with Steps() as progress:
                lifecycle.down(layout, progress)


class Writer(threading.Thread):
    """Random changes, each in a transaction of its own; what was committed, in order, is in `committed`.

    It goes on over an outage of Postgres: a change whose commit is in doubt is looked up.
    """

    def __init__(self, world: World, seed: int, changes: int) -> None:
        super().__init__(daemon=True)
        self._world, self._random, self._changes = world, random.Random(seed), changes
        self._rows: dict[str, int] = {}
        self.committed: list[Step] = []
        self.failure: BaseException | None = None

    def run(self) -> None:
        try:
            asyncio.run(self._write())
        except BaseException as error:
            self.failure = error

    def has_reached(self, changes: int) -> bool:
        """Or it has failed."""
        return len(self.committed) >= changes or not self.is_alive()

    async def _write(self) -> None:
        db = await asyncpg.connect(self._world.dsn)
        try:
            for number in range(self._changes):
                code = f"F{self._random.randrange(60):03}"
                if code not in self._rows:
                    sql, op, version = (
                        "INSERT INTO shop.products (stock_code, supplier) VALUES ($1, $2)",
                        "c",
                        1,
                    )
                elif self._random.random() < 0.2:
                    sql, op, version = (
                        "DELETE FROM shop.products WHERE stock_code = $1 AND $2 <> ''",
                        "d",
                        self._rows[code],
                    )
                else:
                    version = self._rows[code] + 1
                    sql, op = "UPDATE shop.products SET supplier = $2 WHERE stock_code = $1", "u"
                await db.execute(sql, code, f"supplier {number}")
                self.committed.append(("products", (code,), op, version))
                if op == "d":
                    del self._rows[code]
                else:
                    self._rows[code] = version
                await asyncio.sleep(self._random.expovariate(400))
        finally:
            await db.close()


def test_killing_connect_in_the_midst_of_changes_loses_none(world: World) -> None:
    seed = int(os.environ.get("TILLSTREAM_TEST_SEED") or time.time_ns() % 2**32)
    print(f"seed {seed}")
    writer = Writer(world, seed, changes=8_000)
    topics = world.topics()
    writer.start()
    for at in (1_000, 3_000, 5_500):
        world.wait(partial(writer.has_reached, at), 120, lambda: writer.failure)
        world.kill("connect")
        print(f"killed after {len(writer.committed)} changes")
    writer.join(120)
    assert writer.failure is None, writer.failure

    def captured() -> list[Step]:
        return [step for step in steps(topics.changes) if step[1][0].startswith("F")]

    topics.read_until(
        lambda: set(captured()) >= set(writer.committed),
        120,
        lambda: f"{len(captured())} of {len(writer.committed)}; {world.health()}",
    )
    assert faults(writer.committed, captured()) == []
    table = {(row["stock_code"],): row["version"] for row in world.rows("SELECT * FROM shop.products")}
    assert {key: row["version"] for key, row in final_rows(topics.changes, "products").items()} == table
    repeats = len(topics.of("products")) - len(captured())
    print(f"{len(writer.committed)} changes, {repeats} came twice")
    # Sabotage: one record less, one too many, two in the wrong order; each is noticed.
    good = captured()
    assert faults(writer.committed, good[1:]) != []
    assert faults(writer.committed, [*good, ("products", ("never",), "c", 1)]) != []
    first = good[0][:2]
    last = max(index for index, step in enumerate(good) if step[:2] == first)
    swapped = [good[last], *good[1:last], good[0], *good[last + 1 :]]
    assert faults(writer.committed, swapped) != []
    topics.close()
    world.wait_ready()


def test_new_nullable_column_flows_without_a_stop(world: World) -> None:
    world.wait_ready()
    topics = world.topics()
    restarts = (
        metric(world.metrics(), "tillstream_connect_restarts_total", connector="shop")
        if ("tillstream_connect_restarts_total{" in world.metrics())
        else 0.0
    )
    world.run(
        "INSERT INTO shop.products (stock_code) VALUES ('before column')",
        "ALTER TABLE shop.products ADD COLUMN colour text",
        "UPDATE shop.products SET colour = 'red' WHERE stock_code = 'before column'",
        "INSERT INTO shop.products (stock_code, colour) VALUES ('after column', 'blue')",
    )

    def own() -> list[tuple[str, str, Any]]:
        found = [change for change in topics.of("products") if "column" in change.key[0]]
        return [(c.key[0], c.op, (c.after or {}).get("colour")) for c in found]

    expected = [("before column", "c", None), ("before column", "u", "red"), ("after column", "c", "blue")]
    topics.read_until(
        lambda: sorted(own(), key=str) == sorted(expected, key=str), 60, lambda: f"{own()} {world.health()}"
    )
    assert world.health()[0] == "ready"
    assert 'state="FAILED"} 1' not in world.metrics()
    if restarts:
        assert metric(world.metrics(), "tillstream_connect_restarts_total", connector="shop") == restarts
    topics.close()


def test_incompatible_column_stops_with_a_clear_message_and_loses_nothing(world: World) -> None:
    world.wait_ready()
    topics = world.topics()
    world.run(
        "INSERT INTO shop.products (stock_code) VALUES ('typed')",
        "INSERT INTO shop.stock_levels (stock_code, location, quantity) VALUES ('typed', 'A', 1)",
        # A sequence number becomes text: no reader of the old schema could take it.
        "ALTER TABLE shop.stock_levels ALTER COLUMN quantity TYPE text",
        "UPDATE shop.stock_levels SET quantity = 'two' WHERE stock_code = 'typed'",
        "INSERT INTO shop.stock_levels (stock_code, location, quantity) VALUES ('typed', 'B', 'three')",
        "INSERT INTO shop.products (stock_code) VALUES ('after typed')",
    )
    world.wait(lambda: world.health()[0] == "degraded", 90, world.health)
    world.wait(lambda: "ncompatible" in world.health()[1], 30, world.health)
    print(world.health()[1])
    assert metric(world.metrics(), "tillstream_connect_task_state", connector="shop", state="FAILED") == 1
    _set_compatibility(world, "cdc.shop.stock_levels-value", "NONE")
    world.wait_ready(180)
    _set_compatibility(world, "cdc.shop.stock_levels-value", "BACKWARD")

    def own() -> set[tuple[str, str, Any]]:
        levels = [c for c in topics.of("stock_levels") if c.key[0] == "typed"]
        return {(c.key[1], c.op, (c.after or {}).get("quantity")) for c in levels}

    expected = {("A", "c", 1), ("A", "u", "two"), ("B", "c", "three")}
    topics.read_until(lambda: own() == expected, 60, lambda: f"{own()} {world.health()}")
    topics.read_until(
        lambda: any(c.key == ("after typed",) for c in topics.of("products")), 30, lambda: str(world.health())
    )
    topics.close()


def test_connector_that_somebody_deleted_is_registered_again_and_goes_on(world: World) -> None:
    world.wait_ready()
    topics = world.topics()
    world.connect("DELETE", "/connectors/shop")
    world.run("INSERT INTO shop.products (stock_code) VALUES ('while deleted')")
    topics.read_until(
        lambda: [c.op for c in topics.of("products") if c.key == ("while deleted",)] == ["c"],
        90,
        lambda: str(world.health()),
    )
    topics.close()
    world.wait_ready()


def test_idle_shop_beside_a_busy_warehouse_does_not_keep_the_log(world: World) -> None:
    world.wait_ready()
    world.run("CREATE TABLE IF NOT EXISTS public.busy (filler text)")

    def retained() -> float:
        return metric(world.metrics(), "tillstream_cdc_slot_retained_bytes")

    # Sabotage first: while nobody reads the slot, the log is kept, and the metric says so.
    world.connect("PUT", "/connectors/shop/stop")
    fill = "INSERT INTO public.busy SELECT repeat(md5(i::text), 30) FROM generate_series(1, 100000) i"
    world.run(fill, "CHECKPOINT")
    world.wait(lambda: retained() > 50e6, 30, retained)
    assert world.health()[0] == "degraded"
    world.connect("PUT", "/connectors/shop/resume")
    world.wait_ready()
    world.run(fill)
    # The heartbeat is the only change that the connector sees.
    world.wait(lambda: retained() < 20e6, 120, retained)
    world.run("DROP TABLE public.busy")


def _set_compatibility(world: World, subject: str, level: str) -> None:
    request = urllib.request.Request(
        f"{world.stack.urls()['registry']}/config/{subject}",
        data=json.dumps({"compatibility": level}).encode(),
        method="PUT",
        headers={"Content-Type": "application/vnd.schemaregistry.v1+json"},
    )
    urllib.request.urlopen(request, timeout=10).close()
