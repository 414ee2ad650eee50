"""What other services tell, and the life of an event put together from it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any, cast

import httpx
import pytest

from query_api.errors import UpstreamUnavailableError
from query_api.lives import Lives
from query_api.postgres import Store
from query_api.types import EventStatus, Ledger, Stage
from query_api.upstream import Platform

Answer = Callable[[httpx.Request], httpx.Response]

AT = datetime(2020, 1, 1, tzinfo=UTC)
BALANCE = {
    "accepted": 10, "duplicates": 1, "quarantined": 2, "resolved": 3, "in_flight": 4, "balanced": True,
    "gold": {"lake": 0, "warehouse": 0, "search": None}, "missing": [],
}  # fmt: skip
FACT = {
    "event_id": "sold", "source": "till", "invoice_no": "1", "line_no": 1, "stock_code": "22423",
    "description": None, "quantity": 1, "unit_price": Decimal(1), "currency": "GBP", "amount": Decimal(1),
    "amount_gbp": Decimal(1), "customer_id": None, "country": None, "country_code": None, "region": None,
    "invoice_ts": AT, "is_return": False, "is_product": True, "quality_score": 1.0, "customer_key": -1,
    "product_key": 1, "revision": 0, "recorded_at": AT, "ingest_ts": AT, "validated_ts": AT, "loaded_at": AT,
    "raw_partition": 0, "raw_offset": 5, "validated_partition": 1, "validated_offset": 6,
    "enriched_partition": 1, "enriched_offset": 7,
}  # fmt: skip
ITEM = {
    "item_id": "item", "event_id": "refused", "state": "OPEN", "reason": "EMPTY_KEY", "ingest_ts": AT,
    "quarantined_ts": AT, "raw_partition": None, "raw_offset": None, "quarantine_partition": 2,
    "quarantine_offset": 9,
}  # fmt: skip


def platform(answer: Answer, **more: Any) -> Platform:
    client = httpx.AsyncClient(transport=httpx.MockTransport(answer))
    stages = {"quality": "http://quality", "enrich": "http://enrich/"}
    return Platform(client, stages, "http://ledger", **more)


def down(request: httpx.Request) -> httpx.Response:
    raise httpx.ConnectError("refused", request=request)


def ledger_says(body: Any, status: int = 200) -> Answer:
    return lambda _: httpx.Response(status, json=body)


class Facts:
    """A store with these rows."""

    def __init__(self, fact: Mapping[str, Any] | None = None, item: Mapping[str, Any] | None = None) -> None:
        self._rows = {"fact_sales": fact, "quarantine": item}

    async def row(self, sql: str, *_: Any) -> Mapping[str, Any] | None:
        return next(row for table, row in self._rows.items() if table in sql)


def life(event_id: str, answer: Answer, facts: Facts) -> Any:
    return asyncio.run(Lives(cast(Store, facts), platform(answer)).life(event_id))


def test_stage_that_does_not_answer_is_stopped_and_the_others_are_told() -> None:
    def answer(request: httpx.Request) -> httpx.Response:
        if request.url.host == "quality":
            return down(request)
        assert request.url.path == "/stats"
        return httpx.Response(
            200,
            json={"name": "x", "state": "ready", "lag": 3, "lag_seconds": 0.5, "p50_ms": 1, "p99_ms": None},
        )

    assert asyncio.run(platform(answer).stages()) == [
        Stage(name="quality", state="stopped", lag=None, lag_seconds=None, p50_ms=None, p99_ms=None),
        Stage(name="enrich", state="ready", lag=3, lag_seconds=0.5, p50_ms=1.0, p99_ms=None),
    ]


LAGS = {
    "groups": [
        {"group": "tillstream.quality", "lag": 7, "lag_seconds": 2.5, "exact": True},
        {"group": "tillstream.enrich.extra", "lag": 9, "lag_seconds": 9.0, "exact": True},
    ]
}


def test_lag_is_the_exporters_even_for_a_stage_that_stands_still() -> None:
    def answer(request: httpx.Request) -> httpx.Response:
        if request.url.host == "quality":
            return down(request)
        if request.url.host == "lag":
            assert request.url.path == "/lag"
            return httpx.Response(200, json=LAGS)
        return httpx.Response(200, json={"state": "ready", "lag": 3, "lag_seconds": 0.5})

    stages = asyncio.run(platform(answer, lag_url="http://lag/").stages())
    assert [(s.name, s.state, s.lag, s.lag_seconds) for s in stages] == [
        ("quality", "stopped", 7, 2.5),
        ("enrich", "ready", 3, 0.5),
    ]


@pytest.mark.parametrize("body", ["[]", "{", "{}", '{"groups": [{"group": "tillstream.enrich"}]}'])
def test_stages_tell_their_own_lag_where_the_exporter_answers_nonsense(body: str) -> None:
    def answer(request: httpx.Request) -> httpx.Response:
        own = httpx.Response(200, json={"state": "ready", "lag": 3, "lag_seconds": 0.5})
        return httpx.Response(200, text=body) if request.url.host == "lag" else own

    assert [s.lag for s in asyncio.run(platform(answer, lag_url="http://lag").stages())] == [3, 3]


@pytest.mark.parametrize("body", ["[]", "{", '{"state": "ready", "lag": "many"}'])
def test_stage_that_answers_nonsense_is_stopped(body: str) -> None:
    stages = asyncio.run(platform(lambda _: httpx.Response(200, text=body)).stages())
    assert [stage.state for stage in stages] == ["stopped", "stopped"]


def test_stages_are_asked_at_the_same_time() -> None:
    waiting: set[str] = set()
    both = asyncio.Event()

    async def answer(request: httpx.Request) -> httpx.Response:
        waiting.add(request.url.host)
        if len(waiting) == 2:
            both.set()
        await both.wait()
        return httpx.Response(200, json={"state": "ready"})

    client = httpx.AsyncClient(transport=httpx.MockTransport(answer))
    asked = Platform(client, {"a": "http://a", "b": "http://b"}, None, stage_timeout=5)
    assert [stage.state for stage in asyncio.run(asked.stages())] == ["ready", "ready"]


def test_ledger_is_read_and_shared_by_all_who_ask_within_its_time() -> None:
    asked: list[str] = []

    def answer(request: httpx.Request) -> httpx.Response:
        asked.append(request.url.path)
        return httpx.Response(200, json=BALANCE)

    async def run(ttl: float) -> list[Ledger]:
        there = platform(answer, ledger_ttl=ttl)
        return [await there.ledger() for _ in range(3)]

    expected = Ledger(
        accepted=10, duplicates=1, quarantined=2, resolved=3, in_flight=4, balanced=True
    )  # fmt: skip
    assert asyncio.run(run(60)) == [expected] * 3
    assert asked == ["/ledger"]
    asyncio.run(run(0))
    assert asked == ["/ledger"] * 4


@pytest.mark.parametrize("answer", [down, ledger_says({}, 503), ledger_says({}), ledger_says([])])
def test_ledger_that_does_not_answer_is_told_as_unavailable(answer: Answer) -> None:
    with pytest.raises(UpstreamUnavailableError):
        asyncio.run(platform(answer).ledger())


def test_event_id_is_quoted_in_the_ledgers_path() -> None:
    def answer(request: httpx.Request) -> httpx.Response:
        return httpx.Response(200, json={"path": request.url.raw_path.decode()})

    found = asyncio.run(platform(answer).event("../a b?"))
    assert found == {"path": "/events/..%2Fa%20b%3F"}


def test_sale_is_gold_and_gets_the_lakes_hop_and_the_topics_times_from_the_ledger() -> None:
    heard = {
        "status": "GOLD",
        "hops": [
            {"stage": "raw", "at": 1_577_836_800_123, "topic": "sales.raw.v1", "partition": 0, "offset": "5"},
            {"stage": "quality", "at": 1_577_836_800_200, "topic": "sales.decisions.v1"},
            {"stage": "validated", "at": 0, "topic": "sales.validated.v1", "partition": 1, "offset": "6"},
            {"stage": "lake", "at": "2020-01-01T00:00:02Z"},
        ],
    }
    found = life("sold", ledger_says(heard), Facts(fact=FACT))
    assert (found.status, found.reason, found.sale.event_id) == (EventStatus.GOLD, None, "sold")
    assert [(hop.stage, hop.offset) for hop in found.hops] == [
        ("received", None), ("raw", "5"), ("quality", None), ("validated", "6"), ("enriched", "7"),
        ("warehouse", None), ("lake", None),
    ]  # fmt: skip
    times = {hop.stage: hop.at for hop in found.hops}
    assert times["raw"] == datetime(2020, 1, 1, 0, 0, 0, 123_000, tzinfo=UTC)
    assert times["validated"] == AT, "the row's own time stands"
    assert times["lake"] == datetime(2020, 1, 1, 0, 0, 2, tzinfo=UTC)


def test_sale_that_the_lake_still_awaits_is_in_flight_as_in_the_ledger() -> None:
    found = life("sold", ledger_says({"status": "IN_FLIGHT", "hops": []}), Facts(fact=FACT))
    assert found.status is EventStatus.IN_FLIGHT
    assert found.sale is not None


@pytest.mark.parametrize("answer", [down, ledger_says({}, 404), ledger_says({}, 500)])
def test_what_the_warehouse_knows_is_told_without_the_ledger(answer: Answer) -> None:
    assert life("sold", answer, Facts(fact=FACT)).status is EventStatus.GOLD
    refused = life("refused", answer, Facts(item=ITEM))
    assert (refused.status, refused.reason) == (EventStatus.QUARANTINED, "EMPTY_KEY")
    assert [(hop.stage, hop.offset) for hop in refused.hops] == [("received", None), ("quarantine", "9")]


def test_event_that_only_the_topics_know_is_in_flight_or_quarantined() -> None:
    hop = {"stage": "raw", "at": None, "topic": "sales.raw.v1", "partition": 0, "offset": "1"}
    found = life("x", ledger_says({"status": "IN_FLIGHT", "reason": None, "hops": [hop]}), Facts())
    assert (found.status, found.sale, [h.stage for h in found.hops]) == (
        EventStatus.IN_FLIGHT,
        None,
        ["raw"],
    )
    found = life("x", ledger_says({"status": "QUARANTINED", "reason": "EMPTY_KEY", "hops": []}), Facts())
    assert (found.status, found.reason) == (EventStatus.QUARANTINED, "EMPTY_KEY")
    resolved = Facts(item={**ITEM, "state": "RESOLVED"})
    assert life("x", ledger_says({"status": "IN_FLIGHT", "hops": []}), resolved).status is (
        EventStatus.IN_FLIGHT
    )


def test_event_that_nothing_knows_is_null_and_a_silent_ledger_is_not_taken_for_that() -> None:
    assert life("x", ledger_says({"detail": "no"}, 404), Facts()) is None
    with pytest.raises(UpstreamUnavailableError):
        life("x", down, Facts())
