"""Sales one by one: pages, filters, invoices, and the life of an event, on a real Postgres."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from decimal import Decimal
from typing import Any

import asyncpg
import pytest

from tests.integration.query_api_facts import SAMPLES, Line, insert, odd_ones, read
from tests.integration.query_api_harness import Client, client, database

PAGE = """query($n:Int,$after:String,$f:SaleFilter){ sales(first:$n, after:$after, filter:$f) {
    totalCount edges { cursor node { eventId invoiceTs } }
    pageInfo { hasNextPage hasPreviousPage startCursor endCursor } } }"""


@pytest.fixture(scope="module")
def lines() -> list[Line]:
    found = read(sorted(SAMPLES.glob("*.csv"))[:1])
    return found + odd_ones(found[0])


@pytest.fixture(scope="module")
def dsn(stack: Any, lines: list[Line]) -> Iterator[str]:
    with database(stack.postgres) as made:
        asyncio.run(_load(made, lines))
        yield made


async def _load(dsn: str, lines: list[Line]) -> None:
    connection = await asyncpg.connect(dsn)
    await insert(connection, lines)
    await connection.close()


async def _walk(api: Client, first: int, wanted: dict[str, Any] | None = None) -> list[str]:
    """All ids, page by page."""
    ids: list[str] = []
    after = None
    while True:
        page = (await api.ask(PAGE, n=first, after=after, f=wanted))["sales"]
        assert page["pageInfo"]["hasPreviousPage"] is (after is not None)
        ids += [edge["node"]["eventId"] for edge in page["edges"]]
        if not page["pageInfo"]["hasNextPage"]:
            return ids
        after = page["pageInfo"]["endCursor"]
        assert after == page["edges"][-1]["cursor"]


@pytest.mark.parametrize("first", [1000, 97])
def test_pages_visit_every_id_once_newest_first(dsn: str, lines: list[Line], first: int) -> None:
    async def run() -> list[str]:
        async with client(dsn) as api:
            return await _walk(api, first)

    expected = sorted(lines, key=lambda line: (line.at, line.event_id), reverse=True)
    assert asyncio.run(run()) == [line.event_id for line in expected]


def test_pages_visit_every_id_once_while_rows_are_inserted(stack: Any, lines: list[Line]) -> None:
    """Rows arrive on both sides of the cursor all the time; none that was there is missed or repeated."""
    there, arriving = lines[::2], lines[1::2]

    async def run(dsn: str) -> list[str]:
        async with client(dsn) as api:
            writing = asyncio.create_task(write(dsn))
            ids = await _walk(api, 20)
            await writing
            return ids

    async def write(dsn: str) -> None:
        connection = await asyncpg.connect(dsn)
        for start in range(0, len(arriving), 25):
            await insert(connection, arriving[start : start + 25])
        await connection.close()

    with database(stack.postgres) as made:
        asyncio.run(_load(made, there))
        seen = Counter(asyncio.run(run(made)))
    assert max(seen.values()) == 1
    assert {line.event_id for line in there} <= set(seen) <= {line.event_id for line in lines}


def test_filters_select_what_they_say(dsn: str, lines: list[Line]) -> None:
    some = next(line for line in lines if line.customer and line.country == "France")
    cases: list[tuple[dict[str, Any], Any]] = [
        ({"country": "France"}, lambda line: line.country == "France"),
        ({"stockCode": some.stock_code}, lambda line: line.stock_code == some.stock_code),
        ({"customerId": some.customer}, lambda line: line.customer == some.customer),
        ({"invoiceNo": lines[0].invoice}, lambda line: line.invoice == lines[0].invoice),
        ({"isReturn": True}, lambda line: line.is_return),
        ({"isReturn": False}, lambda line: not line.is_return),
        ({"range": {"from": "2010-12-01", "to": "2010-12-02"}}, lambda line: line.day == 20101201),
        ({"range": {"from": "2010-12-02"}}, lambda line: line.day >= 20101202),
        ({"country": "France", "isReturn": True}, lambda line: line.country == "France" and line.is_return),
        ({"country": "Nowhere"}, lambda line: False),
    ]

    async def run() -> None:
        async with client(dsn) as api:
            for wanted, keeps in cases:
                expected = {line.event_id for line in lines if keeps(line)}
                ids = await _walk(api, 1000, wanted)
                assert len(ids) == len(expected), wanted
                assert set(ids) == expected, wanted
                page = (await api.ask(PAGE, n=0, f=wanted))["sales"]
                assert (page["totalCount"], page["edges"]) == (len(expected), [])

    asyncio.run(run())


def test_a_sale_carries_every_field_of_its_row(dsn: str, lines: list[Line]) -> None:
    line = lines[0]

    async def run() -> dict[str, Any]:
        async with client(dsn) as api:
            query = """query($i:String!){ sales(filter:{invoiceNo:$i}) { edges { node {
                eventId source invoiceNo lineNo stockCode description quantity unitPrice currency amount
                amountGbp customerId country countryCode region invoiceTs isReturn isProduct qualityScore
                customerKey productKey revision recordedAt } } } }"""
            edges = (await api.ask(query, i=line.invoice))["sales"]["edges"]
            return next(e["node"] for e in edges if e["node"]["eventId"] == line.event_id)

    found = asyncio.run(run())
    assert isinstance(found.pop("customerKey"), str)
    assert isinstance(found.pop("productKey"), str)
    assert found == {
        "eventId": line.event_id, "source": line.source, "invoiceNo": line.invoice, "lineNo": 1,
        "stockCode": line.stock_code, "description": line.description, "quantity": line.quantity,
        "unitPrice": "2.55", "currency": "GBP", "amount": "15.30", "amountGbp": "15.30",
        "customerId": line.customer, "country": "United Kingdom", "countryCode": "GB", "region": "Europe",
        "invoiceTs": "2010-12-01T08:26:00Z", "isReturn": False, "isProduct": True, "qualityScore": 1.0,
        "revision": 0, "recordedAt": "2020-01-01T00:00:00Z",
    }  # fmt: skip


def test_invoice_is_the_latest_of_the_sources_that_share_its_number(dsn: str, lines: list[Line]) -> None:
    shared = lines[0].invoice
    web = [line for line in lines if line.source == "web" and line.invoice == shared]
    other = next(line for line in lines if line.invoice != shared)
    query = """query($i:String!){ invoice(invoiceNo:$i) {
        invoiceNo source invoiceTs country isReturn amount amountGbp lines { eventId lineNo } } }"""

    async def run() -> tuple[Any, Any, Any]:
        async with client(dsn) as api:
            numbers = (shared, other.invoice, "none such")
            found = [(await api.ask(query, i=number))["invoice"] for number in numbers]
            return found[0], found[1], found[2]

    latest, plain, none = asyncio.run(run())
    assert (latest["source"], latest["invoiceTs"]) == ("web", "2010-12-01T23:26:00Z")
    assert [line["eventId"] for line in latest["lines"]] == [line.event_id for line in web]
    assert latest["amountGbp"] is None, "a line of it has no rate yet"
    expected = [line for line in lines if line.invoice == other.invoice]
    assert Decimal(plain["amount"]) == sum(line.quantity * line.price for line in expected)
    assert Decimal(plain["amountGbp"]) == Decimal(plain["amount"])
    assert [line["eventId"] for line in plain["lines"]] == [line.event_id for line in expected]
    assert none is None


LIFE = "query($i:ID!){ event(id:$i) { eventId status reason sale { eventId amount } hops { stage topic partition offset at } } }"  # fmt: skip # noqa: E501


def test_life_of_a_sale_and_of_a_refused_event(dsn: str, lines: list[Line]) -> None:
    line = replace(lines[0], invoice="refused", at=lines[0].at + timedelta(days=1))

    async def run() -> tuple[Any, Any]:
        connection = await asyncpg.connect(dsn)
        await connection.execute(
            "INSERT INTO ops.quarantine (item_id, state, stage, event_id, reason, payload, payload_format,"
            " raw_partition, raw_offset, ingest_ts, quarantined_ts, quarantine_partition, quarantine_offset)"
            " VALUES ('item', 'OPEN', 'quality', $1, 'NEGATIVE_QUANTITY', '', 'avro', 2, 77,"
            " '2020-01-01Z', '2020-01-01 00:00:01Z', 1, 9007199254740993)",
            line.event_id,
        )
        await connection.close()
        async with client(dsn) as api:
            sold = (await api.ask(LIFE, i=lines[0].event_id))["event"]
            refused = (await api.ask(LIFE, i=line.event_id))["event"]
            assert (await api.ask(LIFE, i="item"))["event"]["reason"] == "NEGATIVE_QUANTITY"
            return sold, refused

    sold, refused = asyncio.run(run())
    assert (sold["status"], sold["sale"]) == ("GOLD", {"eventId": lines[0].event_id, "amount": "15.30"})
    assert [(hop["stage"], hop["topic"], hop["offset"]) for hop in sold["hops"]] == [
        ("received", None, None),
        ("raw", "sales.raw.v1", "0"),
        ("validated", "sales.validated.v1", "1"),
        ("enriched", "sales.enriched.v1", "2"),
        ("warehouse", None, None),
    ]
    assert (refused["status"], refused["reason"], refused["sale"]) == (
        "QUARANTINED",
        "NEGATIVE_QUANTITY",
        None,
    )
    assert [(hop["stage"], hop["partition"], hop["offset"]) for hop in refused["hops"]] == [
        ("received", None, None),
        ("raw", 2, "77"),
        ("quarantine", 1, "9007199254740993"),
    ]


@pytest.mark.parametrize(
    ("query", "variables"),
    [
        ("query($a:String){sales(after:$a){totalCount}}", {"a": "not a cursor"}),
        ("query($i:String!){invoice(invoiceNo:$i){source}}", {"i": "nul\x00"}),
        ("query($c:String){kpis(country:$c){lines}}", {"c": "nul\x00"}),
    ],
)
def test_a_value_that_cannot_be_is_the_clients_error(dsn: str, query: str, variables: dict[str, str]) -> None:
    async def run() -> dict[str, Any]:
        async with client(dsn) as api:
            answer = await api.http.post("/graphql", json={"query": query, "variables": variables})
            return answer.json()  # type: ignore[no-any-return]

    assert asyncio.run(run())["errors"][0]["extensions"]["code"] == "BAD_INPUT"
