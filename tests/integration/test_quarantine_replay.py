"""The way of a replay over real tables: refused, chosen, mended, sent, resolved or refused again.

Broker and registry are in memory; ingest, quality, the warehouse's sink, Postgres and the API's parts are
real.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Iterator, Sequence
from typing import Any, TypeVar

import pytest
from prometheus_client import CollectorRegistry

from deploy.micro.chain import ENRICHED, QUARANTINE, RAW, Chain
from gold_writer.warehouse.metrics import WarehouseMetrics
from gold_writer.warehouse.pipeline import WarehousePipeline
from gold_writer.warehouse.sink import WarehouseSink
from gold_writer.warehouse.store import PostgresStore
from query_api.errors import BadInputError, ConflictError, NotFoundError
from query_api.metrics import Metrics
from query_api.postgres import Store
from query_api.quarantine.items import Items
from query_api.quarantine.journal import Journal
from query_api.quarantine.mending import Mended
from query_api.quarantine.replays import Replays, Request
from streamkit.clock import SystemClock
from streamkit.limits import Limits
from streamkit.memory import MemoryConsumer
from streamkit.sink_runner import SinkRunner
from streamkit.stats import StageStats
from tests.integration.query_api_harness import database

pytestmark = pytest.mark.integration
T = TypeVar("T")

SALE = {
    "source_system": "till-7",
    "stock_code": "85123A",
    "unit_price": "2.55",
    "currency": "GBP",
    "country": "EIRE",
    "invoice_ts": "2010-12-01T08:26:00Z",
}


class World:
    """The chain with a warehouse; `doors` counts what was sent through ingest."""

    def __init__(self, dsn: str) -> None:
        self.dsn = dsn
        self.chain = Chain()
        self.sent: list[list[Mended]] = []
        stats = StageStats("warehouse", SystemClock(), CollectorRegistry())
        self.sink = WarehouseSink(
            PostgresStore(dsn, "tillstream.warehouse"),
            WarehousePipeline(sales=self.chain.codec(ENRICHED), quarantine=self.chain.codec(QUARANTINE)),
            lambda topics: {topic: self.chain.broker.topic_id(topic) for topic in topics},
            metrics=WarehouseMetrics(stats.registry),
            clock=SystemClock(),
        )
        self.runner = SinkRunner(
            MemoryConsumer(self.chain.broker, "test.warehouse"),
            self.sink,
            topics=[ENRICHED, QUARANTINE],
            stats=stats,
            clock=SystemClock(),
            limits=Limits(poll_timeout_s=0.0, linger_s=0.0),
        )
        self.runner.start()

    def sell(self, *sales: dict[str, Any]) -> None:
        self.chain.post(json.dumps([{**SALE, **sale} for sale in sales]).encode())
        self.settle()

    def settle(self) -> None:
        self.chain.drain()
        idle = 0
        while idle < 8:
            idle = 0 if self.runner.step() else idle + 1

    async def send(self, replay_id: str, items: Sequence[Mended]) -> dict[str, Any]:
        """In the place of the HTTP client: the same lines, by the same pipeline."""
        self.sent.append(list(items))
        answer = self.chain.replay(b"\n".join(item.line() for item in items), replay_id)
        return {"accepted": answer.sales.height, "quarantined": answer.refused.height}

    def ask(self, question: Callable[[Items, Replays], Awaitable[T]]) -> T:
        async def asked() -> T:
            store = Store(self.dsn, Metrics(StageStats("query", SystemClock(), CollectorRegistry())))
            items = Items(store)
            replays = Replays(store, items, self.chain.codec(RAW), self, Journal(self.dsn))  # type: ignore[arg-type]
            try:
                return await question(items, replays)
            finally:
                await replays.close()
                await store.close()

        return asyncio.run(asked())

    def replay(self, where: str, only: list[str] | None = None, **assignments: str) -> dict[str, Any]:
        """Run one to its end, and its status after the chain has decided."""

        async def run(_: Items, replays: Replays) -> str:
            begun = await replays.start(Request(where, assignments, only, "ann"))
            while (await replays.status(begun["replay_id"]))["state"] == "running":
                await asyncio.sleep(0.01)
            return str(begun["replay_id"])

        replay_id = self.ask(run)
        self.settle()
        return self.ask(lambda _, replays: replays.status(replay_id))

    def gold(self) -> list[str]:
        return sorted(self.chain.good()["event_id"])

    def shown(self, some_id: str) -> dict[str, Any]:
        (item,) = self.ask(lambda items, _: items.shown(some_id))
        return item

    def open_ids(self) -> list[str]:
        page = self.ask(lambda items, _: items.listed("open", None, None, 100, None))
        return sorted(item["item_id"] for item in page["items"])


@pytest.fixture
def world(stack: Any) -> Iterator[World]:
    with database(stack.postgres) as dsn:
        world = World(dsn)
        yield world
        world.runner.close()
        world.sink.close()


def test_mended_items_of_every_kind_are_resolved_and_gold_once(world: World) -> None:
    world.sell(
        {"invoice_no": "1", "line_no": 1, "quantity": 0},
        {"invoice_no": "1", "line_no": 2, "quantity": "six"},
        {"invoice_no": "1", "line_no": 3, "quantity": 3},
        {"invoice_no": "1", "line_no": 3, "quantity": 4},
    )
    groups = world.ask(lambda items, _: items.groups(["rule", "stage"], "open", 10))
    assert sorted((g["rule"], g["stage"], g["items"]) for g in groups) == [
        ("ID_CONFLICT", "quality", 1),
        ("UNDECODABLE", "ingest", 1),
        ("ZERO_QUANTITY", "quality", 1),
    ]
    ids = world.open_ids()
    told = world.replay("reason = 'ZERO_QUANTITY' OR text_quantity = 'six'", quantity="6")
    assert (told["matched"], told["resolved"], told["failed_again"], told["pending"]) == (2, 2, 0, 0)
    told = world.replay("reason = 'ID_CONFLICT'", event_id="concat(event_id, '-2')")
    assert (told["resolved"], told["requested_by"]) == (1, "ann")
    assert world.open_ids() == []
    assert len(world.gold()) == 4 == len(set(world.gold()))
    for item_id in ids:
        shown = world.shown(item_id)
        assert (shown["state"], shown["attempts"]) == ("RESOLVED", 1)
        assert [attempt["outcome"] for attempt in shown["history"]] == ["RESOLVED"]


def test_what_fails_again_says_why_and_counts_its_attempts(world: World) -> None:
    world.sell({"invoice_no": "1", "line_no": 1, "quantity": 0})
    (item,) = world.open_ids()
    told = world.replay("true")
    assert (told["resolved"], told["failed_again"], told["pending"]) == (0, 1, 0)
    assert [(r["reason"], r["items"]) for r in told["reasons"]] == [("ZERO_QUANTITY", 1)]
    world.replay("true", quantity="'many'")
    shown = world.shown(item)
    assert (shown["state"], shown["attempts"], shown["last_reason"]) == ("OPEN", 2, "UNDECODABLE")
    assert [attempt["stage"] for attempt in shown["history"]] == ["quality", "ingest"]
    assert world.open_ids() == [item]
    assert world.replay("attempts = 2", quantity="6")["resolved"] == 1
    assert world.shown(item)["attempts"] == 3


def test_a_replay_of_chosen_items_leaves_the_others_open(world: World) -> None:
    world.sell(*({"invoice_no": "1", "line_no": n, "quantity": 0} for n in (1, 2, 3)))
    first, *others = world.open_ids()
    assert world.replay("true", [first], quantity="1")["matched"] == 1
    assert world.open_ids() == others


def test_a_dry_run_sends_nothing_and_shows_what_it_would(world: World) -> None:
    world.sell({"invoice_no": "1", "line_no": 1, "quantity": 0})
    told = world.ask(
        lambda _, replays: replays.dry_run(Request("quantity = 0", {"quantity": "quantity + 5"}))
    )
    (sample,) = told["items"]
    assert (told["matched"], told["by_rule"]) == (1, {"ZERO_QUANTITY": 1})
    assert sample["changed"] == {"quantity": {"from": 0, "to": 5}}
    assert world.sent == []
    assert len(world.open_ids()) == 1


def test_thousands_of_items_go_in_parts_and_each_once(world: World) -> None:
    world.sell(*({"invoice_no": str(n), "line_no": 1, "quantity": 0} for n in range(5_000)))
    told = world.replay("invoice_no <> '7'", quantity="2")
    assert (told["sent"], told["resolved"], told["pending"]) == (4_999, 4_999, 0)
    assert len(world.sent) > 1
    assert len({item.item_id for part in world.sent for item in part}) == 4_999
    assert len(world.gold()) == 4_999
    assert len(world.open_ids()) == 1


def test_pages_of_items_hold_each_once(world: World) -> None:
    world.sell(*({"invoice_no": str(n), "line_no": 1, "quantity": 0} for n in range(7)))

    async def pages(items: Items, _: Replays) -> list[str]:
        found, after = [], None
        while True:
            page = await items.listed("open", "ZERO_QUANTITY", "till-7", 3, after)
            found += [item["item_id"] for item in page["items"]]
            after = page["next"]
            if after is None:
                return found

    found = world.ask(pages)
    assert sorted(found) == world.open_ids()
    assert len(found) == 7


def test_what_cannot_be_asked_is_told(world: World) -> None:
    for question, error in [
        (lambda items, _: items.groups(["colour"], "open", 1), BadInputError),
        (lambda items, _: items.groups(["rule"], "shut", 1), BadInputError),
        (lambda items, _: items.listed("open", None, None, 1, "no cursor"), BadInputError),
        (lambda items, _: items.shown("nothing"), NotFoundError),
        (lambda _, replays: replays.status("replay-none"), NotFoundError),
        (lambda _, replays: replays.start(Request("quantity")), BadInputError),
    ]:
        with pytest.raises(error):
            world.ask(question)


def test_a_second_replay_waits_for_the_first(world: World) -> None:
    world.sell({"invoice_no": "1", "line_no": 1, "quantity": 0})

    async def both(_: Items, replays: Replays) -> None:
        await replays.start(Request("true"))
        with pytest.raises(ConflictError, match="is running"):
            await replays.start(Request("true"))

    world.ask(both)
