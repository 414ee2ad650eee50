"""Customers and products by GraphQL: the version of a time, histories, pages, and no statement a member."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import asyncpg
import pytest

from query_api.postgres import Store
from tests.integration.query_api_facts import SAMPLES, Line, insert, read
from tests.integration.query_api_harness import client, database

pytestmark = pytest.mark.integration

CHANGED = datetime(2010, 12, 1, 9, 0, 0, 1, tzinfo=UTC)
VERSIONS = """
INSERT INTO warehouse.dim_customers (customer_key, customer_id, name, country, segment, effective_date,
    expiry_date, is_current, version_number, is_deleted, is_inferred) VALUES
  (1, '17850', 'pd1.x', 'United Kingdom', 'RETAIL', '1900-01-01Z', '2010-12-01T09:00:00.000001Z', false, 1,
      false, false),
  (2, '17850', 'pd1.y', 'United Kingdom', 'GOLD', '2010-12-01T09:00:00.000001Z', NULL, true, 2, false, false),
  (3, '13047', NULL, 'France', 'RETAIL', '1900-01-01Z', '2010-12-05Z', false, 1, true, false),
  (4, '12583', NULL, 'France', NULL, '1900-01-01Z', NULL, true, 1, false, true);
INSERT INTO warehouse.dim_products (product_key, stock_code, description, list_price, is_product,
    effective_date, expiry_date, is_current, version_number, is_inferred) VALUES
  (5, '85123A', 'HEART', 2.55, true, '1900-01-01Z', '2010-12-02Z', false, 1, false),
  (6, '85123A', 'WHITE HEART', 2.95, true, '2010-12-02Z', NULL, true, 2, false)
"""


@pytest.fixture(scope="module")
def lines() -> list[Line]:
    return read(sorted(SAMPLES.glob("*.csv"))[:1])


@pytest.fixture(scope="module")
def dsn(stack: Any, lines: list[Line]) -> Iterator[str]:
    async def load(dsn: str) -> None:
        connection = await asyncpg.connect(dsn)
        await insert(connection, lines)
        await connection.execute(VERSIONS)
        await connection.execute(
            "UPDATE warehouse.fact_sales SET customer_key = 2 WHERE customer_id = '17850'"
        )
        await connection.close()

    with database(stack.postgres) as made:
        asyncio.run(load(made))
        yield made


def ask(dsn: str, query: str, **variables: Any) -> dict[str, Any]:
    async def run() -> dict[str, Any]:
        async with client(dsn) as api:
            return await api.ask(query, **variables)

    return asyncio.run(run())


def test_customer_is_the_version_of_the_time_asked_for(dsn: str) -> None:
    query = 'query($a: DateTime) { customer(id: "17850", asOf: $a) { customerKey segment name expiryDate } }'
    assert ask(dsn, query)["customer"] == {
        "customerKey": "2",
        "segment": "GOLD",
        "name": None,
        "expiryDate": None,
    }
    at = ask(dsn, query, a=CHANGED.isoformat())["customer"]
    before = ask(dsn, query, a=(CHANGED - timedelta(microseconds=1)).isoformat())["customer"]
    assert (at["customerKey"], before["customerKey"]) == ("2", "1")
    assert before["expiryDate"] == "2010-12-01T09:00:00.000001Z"


def test_deleted_customer_is_gone_and_was_there_before(dsn: str) -> None:
    query = 'query($a: DateTime) { customer(id: "13047", asOf: $a) { id isCurrent } }'
    assert ask(dsn, query)["customer"] is None
    assert ask(dsn, query, a="2010-12-05T00:00:00Z")["customer"] is None
    assert ask(dsn, query, a="2010-12-04T23:59:59Z")["customer"] == {"id": "13047", "isCurrent": False}


def test_histories_are_oldest_first(dsn: str) -> None:
    found = ask(
        dsn,
        '{ product(stockCode: "85123A", asOf: "2010-12-01T00:00:00Z") '
        "{ description listPrice history { versionNumber description listPrice effectiveDate } } }",
    )["product"]
    assert (found["description"], found["listPrice"]) == ("HEART", "2.55")
    assert [(v["versionNumber"], v["description"], v["effectiveDate"]) for v in found["history"]] == [
        (1, "HEART", "1900-01-01T00:00:00Z"),
        (2, "WHITE HEART", "2010-12-02T00:00:00Z"),
    ]


def test_pages_of_customers_meet_each_once(dsn: str) -> None:
    query = """query($c: String) { customers(first: 1, after: $c) { totalCount
        pageInfo { hasNextPage endCursor }
        edges { node { id } } } }"""
    seen: list[str] = []
    cursor = None
    while True:
        page = ask(dsn, query, c=cursor)["customers"]
        seen += [edge["node"]["id"] for edge in page["edges"]]
        cursor = page["pageInfo"]["endCursor"]
        if not page["pageInfo"]["hasNextPage"]:
            break
    assert seen == ["12583", "17850"]
    assert page["totalCount"] == 2


def test_sales_of_many_customers_are_one_statement(
    dsn: str, lines: list[Line], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []
    real = Store.rows

    async def counted(self: Store, sql: str, *args: Any) -> Any:
        asked.append(sql)
        return await real(self, sql, *args)

    monkeypatch.setattr(Store, "rows", counted)
    found = ask(
        dsn,
        "{ customers { edges { node { id history { versionNumber } "
        "sales(first: 3) { totalCount edges { node { eventId } } pageInfo { hasNextPage } } } } } }",
    )
    statements = [sql for sql in asked if "LIMIT 0" not in sql and "pg_current_snapshot" not in sql]
    assert len([sql for sql in statements if "dim_customers" in sql or "fact_sales" in sql]) == 4
    for edge in found["customers"]["edges"]:
        own = sorted(
            (line for line in lines if line.customer == edge["node"]["id"]),
            key=lambda line: (line.at, line.event_id),
            reverse=True,
        )
        assert [each["node"]["eventId"] for each in edge["node"]["sales"]["edges"]] == [
            line.event_id for line in own[:3]
        ]
        assert edge["node"]["sales"]["totalCount"] == len(own)


def test_sales_of_a_customer_go_on_behind_the_cursor(dsn: str, lines: list[Line]) -> None:
    query = """query($c: String) { customer(id: "17850") { sales(first: 7, after: $c) {
        edges { node { eventId } } pageInfo { hasNextPage endCursor } } } }"""
    seen: list[str] = []
    cursor, more = None, True
    while more:
        page = ask(dsn, query, c=cursor)["customer"]["sales"]
        seen += [edge["node"]["eventId"] for edge in page["edges"]]
        cursor, more = page["pageInfo"]["endCursor"], page["pageInfo"]["hasNextPage"]
    assert len(seen) == len(set(seen))
    assert set(seen) == {line.event_id for line in lines if line.customer == "17850"}


def test_invoice_names_the_customer_as_of_the_sale(dsn: str, lines: list[Line]) -> None:
    invoice = next(line.invoice for line in lines if line.customer == "17850")
    query = "query($i: String!) { invoice(invoiceNo: $i) { customer { customerKey segment } } }"
    assert ask(dsn, query, i=invoice)["invoice"]["customer"] == {"customerKey": "2", "segment": "GOLD"}


def test_cursor_of_something_else_is_refused(dsn: str) -> None:
    async def run() -> Any:
        async with client(dsn) as api:
            answer = await api.http.post(
                "/graphql", json={"query": '{ customers(after: "\\u00e9") { totalCount } }'}
            )
            return answer.json()

    assert "not a cursor" in asyncio.run(run())["errors"][0]["message"]


def test_kpis_as_of_a_time_have_each_sale_in_the_revision_of_that_time(stack: Any, lines: list[Line]) -> None:
    early, later = datetime(2026, 1, 1, tzinfo=UTC), datetime(2026, 2, 1, tzinfo=UTC)
    one = replace(next(line for line in lines if line.gbp), recorded_at=early)

    async def load(dsn: str) -> None:
        connection = await asyncpg.connect(dsn)
        await insert(connection, [one])
        names = await connection.fetchval(
            "SELECT string_agg(column_name, ', ') FROM information_schema.columns "
            "WHERE table_schema = 'warehouse' AND table_name = 'fact_sales'"
        )
        await connection.execute(
            f"INSERT INTO warehouse.fact_sales_superseded ({names}, superseded_at) "
            f"SELECT {names}, '2026-02-01Z' FROM warehouse.fact_sales"
        )
        await connection.execute(
            "UPDATE warehouse.fact_sales SET revision = 1, recorded_at = '2026-02-01Z', "
            "amount_gbp = amount_gbp + 1"
        )
        await connection.close()

    with database(stack.postgres) as dsn:
        asyncio.run(load(dsn))
        query = "query($a: DateTime) { kpis(asOf: $a) { lines revenue } }"
        ago = ask(dsn, query, a=(early - timedelta(seconds=1)).isoformat())["kpis"]
        first = ask(dsn, query, a=(later - timedelta(seconds=1)).isoformat())["kpis"]
        now = ask(dsn, query, a=later.isoformat())["kpis"]
    assert (ago["lines"], first["lines"], now["lines"]) == (0, 1, 1)
    assert float(now["revenue"]) == float(first["revenue"]) + 1
