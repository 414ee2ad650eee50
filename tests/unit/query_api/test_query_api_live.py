"""Subscriptions: current for who keeps up, bounded for who does not, and never one at another's cost."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from typing import Any

import pytest

from query_api import bootstrap, live_parts
from query_api.errors import StoreUnavailableError, TooSlowError, UpstreamUnavailableError
from query_api.kpis import Analytics
from query_api.live import Queue, Seats
from query_api.live_kpis import Counted, Distinct, LiveKpis
from query_api.live_parts import LiveParts
from query_api.settings import QuerySettings
from query_api.topic_tail import TopicTail
from query_api.types import Kpis
from query_api.values import parse_decimal
from tests.unit.query_api.query_api_socket import Socket

ORDERS = "subscription { kpis { lines revenue } }"
WAREHOUSE = Kpis(
    revenue=parse_decimal("0"),
    gross_revenue=parse_decimal("0"),
    returns=parse_decimal("0"),
    orders=4,
    lines=0,
    units=0,
    customers=3,
    average_order_value=None,
)


class Service:
    """The application without Kafka: the test says what the totals are."""

    def __init__(self, app: Any, parts: LiveParts) -> None:
        self.app = app
        self.parts = parts
        self.sockets: list[Socket] = []

    def socket(self) -> Socket:
        self.sockets.append(Socket(self.app))
        return self.sockets[-1]

    def count(self, lines: int) -> None:
        self.parts.kpis.count(
            Counted(lines=lines, units=2 * lines, gross=lines * 1_500_000, returns=-500_000)
        )


@contextlib.asynccontextmanager
async def service(monkeypatch: pytest.MonkeyPatch, **settings: Any) -> AsyncIterator[Service]:
    made: list[LiveParts] = []
    real = live_parts.build

    def build(*arguments: Any) -> LiveParts:
        made.append(real(*arguments))
        return made[-1]

    monkeypatch.setattr(live_parts, "build", build)
    monkeypatch.setattr(TopicTail, "start", lambda self: None)
    nowhere = "postgresql://nobody@127.0.0.1:1/none"
    app = bootstrap.build(QuerySettings(postgres=nowhere, query_live_interval=0.01, **settings))
    async with app.router.lifespan_context(app):
        found = Service(app, made[0])
        try:
            yield found
        finally:
            for socket in found.sockets:
                await socket.close()


class Answers(list[Any]):
    """What the warehouse says: the last element, raised if it is an error."""

    raised = 0

    async def was_away(self) -> None:
        """Until somebody who asked was given an error."""
        async with asyncio.timeout(30):
            while self.raised == 0:
                await asyncio.sleep(0.01)


@pytest.fixture(autouse=True)
def warehouse(monkeypatch: pytest.MonkeyPatch) -> Answers:
    answers = Answers([WAREHOUSE])

    async def answer(*_: Any) -> Kpis:
        if isinstance(answers[-1], Exception):
            answers.raised += 1
            raise answers[-1]
        found: Kpis = answers[-1]
        return found

    monkeypatch.setattr(Analytics, "kpis", answer)
    return answers


def run(test: Callable[[], Coroutine[Any, Any, None]]) -> None:
    asyncio.run(test())


def test_a_subscriber_gets_the_present_figures_then_each_change(monkeypatch: pytest.MonkeyPatch) -> None:
    async def test() -> None:
        async with service(monkeypatch) as api:
            api.count(2)
            socket = api.socket()
            await socket.subscribe(
                "subscription { kpis { revenue grossRevenue returns orders lines units customers "
                "averageOrderValue } }"
            )
            await socket.wait_for(1)
            assert socket.data() == [
                {
                    "kpis": {
                        "revenue": "2.50",
                        "grossRevenue": "3.00",
                        "returns": "-0.50",
                        "orders": 4,
                        "lines": 2,
                        "units": 4,
                        "customers": 3,
                        "averageOrderValue": "0.75",
                    }
                }
            ]
            api.count(3)
            await socket.wait_for(2)
            assert socket.data()[1]["kpis"]["lines"] == 3

    run(test)


def test_a_client_that_takes_nothing_slows_no_other_and_gets_the_newest_when_it_does(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def test() -> None:
        async with service(monkeypatch) as api:
            api.count(0)
            fast, slow = api.socket(), api.socket()
            for socket in (fast, slow):
                await socket.subscribe(ORDERS)
                await socket.wait_for(1)
            slow.taking.clear()
            delays = []
            for lines in range(1, 101):
                began = time.monotonic()
                api.count(lines)
                await fast.wait_until({"kpis": {"lines": lines, "revenue": f"{lines * 1.5 - 0.5:.2f}"}})
                delays.append(time.monotonic() - began)
            assert sorted(delays)[98] < 0.5
            assert len(slow.messages) == 1
            slow.taking.set()
            await slow.wait_until(fast.data()[-1])
            # The first, the one that was being sent, and the newest: nothing was kept for it.
            assert len(slow.messages) <= 3
            lines_seen = [data["kpis"]["lines"] for data in slow.data()]
            assert lines_seen == sorted(lines_seen)

    run(test)


def test_changes_faster_than_a_client_are_conflated(monkeypatch: pytest.MonkeyPatch) -> None:
    async def test() -> None:
        async with service(monkeypatch) as api:
            api.count(0)
            socket = api.socket()
            await socket.subscribe(ORDERS)
            await socket.wait_for(1)
            for lines in range(1, 1001):
                api.count(lines)
            await socket.wait_until({"kpis": {"lines": 1000, "revenue": "1499.50"}})
            assert len(socket.messages) <= 3

    run(test)


def test_the_figures_are_told_again_when_it_is_quiet(monkeypatch: pytest.MonkeyPatch) -> None:
    async def test() -> None:
        async with service(monkeypatch, query_live_heartbeat=1.01) as api:
            api.count(7)
            socket = api.socket()
            await socket.subscribe(ORDERS)
            await socket.wait_for(2)
            assert socket.data()[0] == socket.data()[1]

    run(test)


def test_the_warehouses_counts_follow_while_somebody_listens(
    monkeypatch: pytest.MonkeyPatch, warehouse: Answers
) -> None:
    async def test() -> None:
        async with service(monkeypatch) as api:
            api.count(7)
            socket = api.socket()
            await socket.subscribe("subscription { kpis { orders } }")
            await socket.wait_for(1)
            warehouse.append(StoreUnavailableError("gone"))
            await warehouse.was_away()
            warehouse.append(Kpis(**{**vars(WAREHOUSE), "orders": 9}))
            await socket.wait_until({"kpis": {"orders": 9}})
            assert socket.data() == [{"kpis": {"orders": 4}}, {"kpis": {"orders": 9}}]

    run(test)


def test_without_the_warehouse_a_new_subscriber_is_told_so(
    monkeypatch: pytest.MonkeyPatch, warehouse: Answers
) -> None:
    async def test() -> None:
        warehouse.append(StoreUnavailableError("Postgres does not answer"))
        async with service(monkeypatch) as api:
            api.count(1)
            socket = api.socket()
            await socket.subscribe(ORDERS)
            await socket.wait_for(2)
            assert socket.codes() == ["STORE_UNAVAILABLE"]
            assert socket.messages[-1]["type"] == "complete"

    run(test)


def test_one_subscription_too_many_is_refused_and_a_closed_one_makes_room(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def test() -> None:
        async with service(monkeypatch, query_max_subscriptions=1) as api:
            api.count(1)
            first, second, third = (api.socket() for _ in range(3))
            await first.subscribe(ORDERS)
            await first.wait_for(1)
            await second.subscribe(ORDERS)
            await second.wait_for(2)
            assert second.codes() == ["TOO_MUCH"]
            await first.close()
            await third.subscribe(ORDERS)
            await third.wait_for(1)
            assert third.codes() == []
            api.sockets.remove(first)

    run(test)


def test_the_cost_rule_holds_for_subscriptions(monkeypatch: pytest.MonkeyPatch) -> None:
    async def test() -> None:
        async with service(monkeypatch) as api:
            socket = api.socket()
            fields = " ".join(f"a{i}: lines" for i in range(60))
            await socket.subscribe(f"subscription {{ kpis {{ {fields} }} }}")
            await socket.wait_for(1)
            assert socket.codes() == ["TOO_COSTLY"]

    run(test)


def test_many_subscribers_get_fewer_messages_each(monkeypatch: pytest.MonkeyPatch) -> None:
    async def test() -> None:
        monkeypatch.setattr("query_api.live_kpis._SHARE_S", 0.05)
        async with service(monkeypatch) as api:
            api.count(0)
            sockets = [api.socket() for _ in range(20)]
            for socket in sockets:
                await socket.subscribe(ORDERS)
                await socket.wait_for(1)
            began, lines = time.monotonic(), 0
            while time.monotonic() - began < 1.5:
                lines += 1
                api.count(lines)
                await asyncio.sleep(0.01)
            assert all(len(socket.messages) <= 4 for socket in sockets)
            for socket in sockets:
                await socket.wait_until({"kpis": {"lines": lines, "revenue": f"{lines * 1.5 - 0.5:.2f}"}})

    run(test)


def test_without_totals_a_subscriber_is_told_so_after_a_while() -> None:
    async def distinct() -> Distinct:
        return Distinct(1, 1)

    async def test() -> None:
        live = LiveKpis(distinct, Seats(1), patience=0.01)
        with pytest.raises(UpstreamUnavailableError, match="not there yet"):
            await anext(live.follow())

    run(test)


def test_a_queue_that_runs_over_hands_out_what_it_kept_and_then_says_so() -> None:
    async def test() -> None:
        queue: Queue[int] = Queue(3)
        queue.put([1, 2])
        queue.put([3, 4])
        queue.put([5])
        items = queue.drain()
        assert [await anext(items), await anext(items)] == [1, 2]
        with pytest.raises(TooSlowError):
            await anext(items)

    run(test)
