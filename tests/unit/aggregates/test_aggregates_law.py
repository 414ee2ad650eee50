"""The law: whatever happens on the way, the totals equal a plain recount of the sales."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from streamkit import crashpoints
from streamkit.ports import BrokerError, CommitOutcomeUnknown
from tests.unit.aggregates.aggregates_world import AT, World, recount

CRASH_POINTS = (
    "after-poll", "after-process", "after-begin", "after-produce", "after-before-commit",
    "after-send-offsets", "after-commit", "after-after-commit",
)  # fmt: skip


class Killed(BaseException):
    """As SIGKILL: no handler runs after it."""


def rows(count: int, start: int = 0) -> list[dict[str, Any]]:
    """Over minutes and two days, three countries and none, some products, returns, some without a rate."""
    countries = ("EIRE", "United Kingdom", None, "a|b")
    return [
        {
            "event_id": f"e{i}",
            "country": countries[i % 4],
            "stock_code": f"8512{i % 5}",
            "invoice_ts": AT + dt.timedelta(seconds=37 * i, days=i % 2),
            "is_return": i % 7 == 0,
            "quantity": -i if i % 7 == 0 else i,
            "amount_gbp_micros": None if i % 11 == 0 else (-1 if i % 7 == 0 else 1) * i * 1_234_567,
        }
        for i in range(start, start + count)
    ]


SALE = st.fixed_dictionaries(
    {
        "partition": st.integers(0, 1),
        "country": st.sampled_from(["EIRE", "France", "", "a|b", None, "\u00e9\u4e2d"]),
        "stock_code": st.sampled_from(["85123A", "POST", "1|2"]),
        "quantity": st.integers(-(2**31), 2**31 - 1),
        "amount_gbp_micros": st.none()
        | st.integers(-(2**63), 2**63 - 1)
        | st.sampled_from([10**18 - 1, 1 - 10**18, 0, 1, -1]),
        "is_return": st.booleans(),
        "invoice_ts": st.datetimes(dt.datetime(1999, 1, 1), dt.datetime(2030, 1, 1)).map(
            lambda at: at.replace(microsecond=at.microsecond // 1000 * 1000)
        )
        | st.just(AT),
    }
)


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(sales=st.lists(SALE, max_size=40), split=st.integers(1, 9), restarts=st.sets(st.integers(0, 40)))
def test_any_sales_in_any_batches_with_any_restarts_equal_the_recount(
    sales: list[dict[str, Any]], split: int, restarts: set[int]
) -> None:
    world = World(max_records=split)
    for i, each in enumerate(sales):
        row = {"event_id": f"e{i}"} | {k: v for k, v in each.items() if k != "partition"}
        if row["country"] == "":
            row["country"] = None  # the platform's normal form of nothing
        world.send([row], each["partition"])
        if i in restarts:
            world.run()
    world.run()
    assert world.published() == recount(world.sales)


@pytest.mark.parametrize("point", CRASH_POINTS)
@pytest.mark.parametrize("after", [0, 2])
def test_a_kill_at_any_point_of_the_protocol_counts_each_sale_once(point: str, after: int) -> None:
    world = World()
    for partition in (0, 1):
        world.send(rows(30, 100 * partition), partition)
    passed = 0

    def hook(name: str) -> None:
        nonlocal passed
        passed += name == point
        if name == point and passed == after + 1:
            raise Killed

    crashpoints.arm(hook)
    try:
        first = world.runner()
        first.start()
        with pytest.raises(Killed):
            world.drain(first)
    finally:
        crashpoints.disarm()
    world.kill()
    world.run()
    assert world.published() == recount(world.sales)


@pytest.mark.parametrize("call", ["begin", "produce", "send_offsets", "commit"])
@pytest.mark.parametrize("after", [False, True])
def test_an_outage_in_mid_transaction_counts_each_sale_once(call: str, after: bool) -> None:
    world = World()
    world.send(rows(30))
    runner = world.runner()
    runner.start()
    runner.step()
    error: BrokerError = BrokerError("no answer", retriable=True)
    if call == "commit":
        error = CommitOutcomeUnknown("no answer", retriable=True)
    world.broker.fail_next(call, error, after=after)
    world.drain(runner)
    runner.close()
    assert world.published() == recount(world.sales)


def test_a_shard_that_moves_between_processes_keeps_its_totals() -> None:
    world = World()
    first, second = world.runner("a"), world.runner("b")
    first.start()
    for turn in range(6):
        world.send(rows(20, 100 * turn), turn % 2)
        if turn == 2:
            second.start()
        if turn == 4:
            first.close()
        world.drain(*([first] if turn < 2 else [first, second] if turn < 4 else [second]))
    second.close()
    assert world.published() == recount(world.sales)


def _forget_aborts(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """The batch's sums are put into place before the commit, so an abort leaves them there."""
    from gold_writer.aggregates.state import AggregateState  # noqa: PLC0415

    monkeypatch.setattr(AggregateState, "before_commit", AggregateState.after_commit)


def _begin_empty(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """A process starts from nothing in place of the topic."""
    monkeypatch.setattr("gold_writer.aggregates.state.restore", lambda *_, **__: None)


@pytest.mark.parametrize("sabotage", [_forget_aborts, _begin_empty])
def test_the_law_goes_red_when_the_protocol_is_broken(
    sabotage: Callable[[World, pytest.MonkeyPatch], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    world = World()
    sabotage(world, monkeypatch)
    world.send(rows(14))
    first = world.runner()
    first.start()
    first.step()
    world.broker.fail_next("send_offsets", BrokerError("no answer", retriable=True))
    first.step()
    world.drain(first)
    world.kill()
    world.send(rows(14, 50))
    world.run()
    assert world.published() != recount(world.sales)
