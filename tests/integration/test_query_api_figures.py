"""Every figure of the API equals a plain recount of the CSV, to the last decimal."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any

import asyncpg
import pytest

from tests.integration import query_api_recount as recount
from tests.integration.query_api_facts import SAMPLES, Line, insert, odd_ones, read
from tests.integration.query_api_harness import Client, client, database

KPIS = "revenue grossRevenue returns orders lines units customers averageOrderValue"
AMOUNTS = {"revenue", "grossRevenue", "returns", "averageOrderValue"}
RANGES = [
    (None, None),
    (date(2010, 12, 1), date(2010, 12, 2)),
    (date(2010, 12, 2), None),
    (None, date(2010, 12, 2)),
    (date(2010, 12, 3), date(2010, 12, 1)),
    (date(2031, 1, 1), None),
]


@pytest.fixture(scope="module")
def lines() -> list[Line]:
    found = read(sorted(SAMPLES.glob("*.csv")))
    return found + odd_ones(found[0])


@pytest.fixture(scope="module")
def dsn(stack: Any, lines: list[Line]) -> Iterator[str]:
    async def load(dsn: str) -> None:
        connection = await asyncpg.connect(dsn)
        await insert(connection, lines)
        await connection.close()

    with database(stack.postgres) as made:
        asyncio.run(load(made))
        yield made


def _range(first: date | None, last: date | None) -> dict[str, str]:
    given = {"from": first, "to": last}
    return {name: day.isoformat() for name, day in given.items() if day is not None}


def _exact(answer: dict[str, Any]) -> dict[str, Any]:
    """Amounts as numbers; they must be text without an exponent."""
    exact = dict(answer)
    for name in AMOUNTS & set(answer):
        if answer[name] is not None:
            assert isinstance(answer[name], str)
            assert "E" not in answer[name].upper()
            exact[name] = Decimal(answer[name])
    return exact


def _time(text: str) -> datetime:
    assert text.endswith("Z")
    return datetime.fromisoformat(text)


@pytest.mark.parametrize(("first", "last"), RANGES)
def test_kpis_equal_the_recount(dsn: str, lines: list[Line], first: date | None, last: date | None) -> None:
    names = [None, "France", "EIRE", "france", ""]

    async def ask() -> list[dict[str, Any]]:
        async with client(dsn) as api:
            query = f"query($r:Range,$c:String){{kpis(range:$r,country:$c){{{KPIS}}}}}"
            return [(await api.ask(query, r=_range(first, last), c=name))["kpis"] for name in names]

    kept = recount.between(lines, first, last)
    for name, found in zip(names, asyncio.run(ask()), strict=True):
        expected = [line for line in kept if name is None or line.country == name]
        assert _exact(found) == recount.kpis(expected), name


def test_kpis_as_of_count_only_what_was_recorded_then(dsn: str, lines: list[Line]) -> None:
    at = datetime(2021, 6, 1, 12, tzinfo=UTC)
    before = [line for line in lines if line.recorded_at < at]
    assert len(before) == len(lines) - 1

    async def ask(text: str) -> dict[str, Any]:
        async with client(dsn) as api:
            query = f"query($a:DateTime){{kpis(asOf:$a){{{KPIS}}}}}"
            return (await api.ask(query, a=text))["kpis"]  # type: ignore[no-any-return]

    assert _exact(asyncio.run(ask("2021-06-01T11:59:59.999999Z"))) == recount.kpis(before)
    assert _exact(asyncio.run(ask("2021-06-01T12:00:00"))) == recount.kpis(lines)
    assert _exact(asyncio.run(ask("2021-06-01T14:00:00+02:00"))) == recount.kpis(lines)
    assert asyncio.run(ask("1999-01-01T00:00:00Z"))["averageOrderValue"] is None


@pytest.mark.parametrize("grain", ["MINUTE", "HOUR", "DAY", "MONTH", "YEAR"])
@pytest.mark.parametrize("country", [None, "Germany"])
def test_series_equals_the_recount(dsn: str, lines: list[Line], grain: str, country: str | None) -> None:
    async def ask() -> list[dict[str, Any]]:
        async with client(dsn) as api:
            query = "query($g:Grain,$c:String){salesSeries(grain:$g,country:$c){at revenue orders lines}}"
            return (await api.ask(query, g=grain, c=country))["salesSeries"]  # type: ignore[no-any-return]

    found = [(_time(p["at"]), Decimal(p["revenue"]), p["orders"], p["lines"]) for p in asyncio.run(ask())]
    kept = [line for line in lines if country is None or line.country == country]
    assert found == recount.series(kept, grain)


@pytest.mark.parametrize(("first", "last"), RANGES)
def test_countries_equal_the_recount(
    dsn: str, lines: list[Line], first: date | None, last: date | None
) -> None:
    async def ask() -> list[dict[str, Any]]:
        async with client(dsn) as api:
            query = "query($r:Range){revenueByCountry(range:$r,first:1000){country revenue orders lines}}"
            return (await api.ask(query, r=_range(first, last)))["revenueByCountry"]  # type: ignore[no-any-return]

    found = [(c["country"], Decimal(c["revenue"]), c["orders"], c["lines"]) for c in asyncio.run(ask())]
    assert found == recount.countries(recount.between(lines, first, last))


@pytest.mark.parametrize("by", ["REVENUE", "QUANTITY"])
@pytest.mark.parametrize("every", [False, True])
def test_products_equal_the_recount(dsn: str, lines: list[Line], by: str, every: bool) -> None:
    async def ask(first: int) -> list[dict[str, Any]]:
        async with client(dsn) as api:
            query = (
                "query($b:By,$e:Boolean,$n:Int){topProducts(first:$n,by:$b,includeNonProducts:$e)"
                "{stockCode description revenue quantity lines}}"
            )
            return (await api.ask(query, b=by, e=every, n=first))["topProducts"]  # type: ignore[no-any-return]

    expected = recount.products(lines, by, every)
    for first in (1000, 7):
        found = [
            (p["stockCode"], p["description"], Decimal(p["revenue"]), p["quantity"], p["lines"])
            for p in asyncio.run(ask(first))
        ]
        assert found == expected[:first]


def test_rest_answers_what_graphql_answers(dsn: str, lines: list[Line]) -> None:
    first, last = date(2010, 12, 1), date(2010, 12, 3)
    kept = recount.between(lines, first, last)

    async def check(api: Client) -> None:
        days = {"from": first.isoformat(), "to": last.isoformat()}
        kpis = await api.rest("kpis", **days)
        assert kpis.pop("average_order_value") == str(recount.kpis(kept)["averageOrderValue"])
        assert Decimal(kpis["gross_revenue"]) == recount.kpis(kept)["grossRevenue"]
        assert kpis["orders"] == recount.kpis(kept)["orders"]
        found = (await api.rest("revenue-by-country", first="1000", **days))["items"]
        assert [(c["country"], Decimal(c["revenue"])) for c in found] == [
            row[:2] for row in recount.countries(kept)
        ]
        found = (await api.rest("top-products", by="quantity", first="3", **days))["items"]
        assert [p["stock_code"] for p in found] == [
            row[0] for row in recount.products(kept, "QUANTITY", False)[:3]
        ]
        found = (await api.rest("sales-series", grain="hour", **days))["items"]
        assert [(_time(p["at"]), Decimal(p["revenue"])) for p in found] == [
            row[:2] for row in recount.series(kept, "HOUR")
        ]

    async def run() -> None:
        async with client(dsn) as api:
            await check(api)

    asyncio.run(run())


def test_a_figure_is_fresh_as_soon_as_its_row_is_committed(stack: Any, lines: list[Line]) -> None:
    """The cache never answers from before a commit that was over when the question came."""

    async def run(dsn: str) -> None:
        connection = await asyncpg.connect(dsn)
        async with client(dsn) as api:
            for count in range(1, 40):
                await insert(connection, [lines[count]])
                answers = await asyncio.gather(*(api.ask("{kpis{lines revenue}}") for _ in range(3)))
                assert [a["kpis"]["lines"] for a in answers] == [count] * 3
                assert (await api.ask("{sales(first:1){totalCount}}"))["sales"]["totalCount"] == count
        await connection.close()

    with database(stack.postgres) as made:
        asyncio.run(run(made))
