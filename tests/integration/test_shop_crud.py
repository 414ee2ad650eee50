"""REST v1 on a real Postgres: what is written, what is refused, and what a repeated request gets."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from typing import Any

import asyncpg
import httpx
import pytest

from query_api.bootstrap import build
from query_api.settings import QuerySettings
from schemas.personal import PERSONAL_FIELDS, is_ciphertext
from tests.integration.query_api_harness import database

SECRETS = {"master_keys": "ab" * 32, "index_key": "cd" * 32}
ADA = {
    "customer_id": "90001",
    "name": "Ada Byron",
    "email": "ada.byron@example.com",
    "phone": "+44 20 7946 0000",
    "address": "12 St James's Square, London",
    "country": "United Kingdom",
    "segment": "retail",
    "tier": "gold",
}
HEART = {"stock_code": "85123A", "description": "HEART HOLDER", "list_price": "2.55", "currency": "GBP"}
Http = httpx.AsyncClient
Ask = Callable[[Http], Awaitable[None]]


@pytest.fixture(scope="module")
def dsn(stack: Any) -> Iterator[str]:
    with pytest.MonkeyPatch.context() as patch, database(stack.postgres) as made:
        patch.setenv("TILLSTREAM_KAFKA", stack.kafka)
        patch.setenv("TILLSTREAM_REGISTRY", stack.registry)
        yield made


@pytest.fixture(scope="module")
def service(dsn: str) -> Iterator[tuple[asyncio.Runner, Http]]:
    """One service for the module, asked on one event loop."""
    with asyncio.Runner() as runner:
        opened = api(dsn)
        yield runner, runner.run(opened.__aenter__())
        runner.run(opened.__aexit__(None, None, None))


@pytest.fixture
def shop(dsn: str, service: tuple[asyncio.Runner, Http]) -> Callable[[Ask], None]:
    """Runs a conversation with the API on empty tables."""
    runner, http = service

    async def empty() -> None:
        db = await asyncpg.connect(dsn)
        await db.execute("TRUNCATE shop.customers, shop.products, shop.stock_levels, shop.price_list")
        await db.execute("TRUNCATE ops.customer_keys, ops.idempotency_keys")
        await db.close()

    def run(ask: Ask) -> None:
        runner.run(empty())
        runner.run(_awaited(ask(http)))

    return run


async def _awaited(conversation: Awaitable[None]) -> None:
    await conversation


@contextlib.asynccontextmanager
async def api(dsn: str, **settings: Any) -> AsyncIterator[Http]:
    app = build(QuerySettings(postgres=dsn, **(settings or SECRETS)))
    transport = httpx.ASGITransport(app=app, raise_app_exceptions=False)
    async with (
        app.router.lifespan_context(app),
        Http(transport=transport, base_url="http://query/api/v1") as http,
    ):
        yield http


async def rows(dsn: str, sql: str, *args: Any) -> list[dict[str, Any]]:
    db = await asyncpg.connect(dsn)
    try:
        return [dict(row) for row in await db.fetch(sql, *args)]
    finally:
        await db.close()


def problem(answer: httpx.Response, status: int, code: str) -> dict[str, Any]:
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    body: dict[str, Any] = answer.json()
    assert body["code"] == code
    return body


def test_customer_is_made_read_changed_and_deleted(shop: Callable[[Ask], None]) -> None:
    async def ask(http: Http) -> None:
        made = await http.post("/customers", json=ADA)
        assert made.status_code == 201, made.text
        assert made.headers["location"] == "/api/v1/customers/90001"
        assert {name: made.json()[name] for name in ADA} == ADA
        found = await http.get("/customers/90001")
        assert found.json() == made.json()
        assert found.headers["etag"] == made.headers["etag"]
        changed = await http.patch(
            "/customers/90001",
            json={"tier": "silver", "phone": None},
            headers={"If-Match": found.headers["etag"]},
        )
        assert (changed.json()["tier"], changed.json()["phone"], changed.json()["version"]) == (
            "silver",
            None,
            2,
        )
        assert changed.json()["name"] == ADA["name"]
        replaced = await http.put(
            "/customers/90001", json={"country": "EIRE"}, headers={"If-Match": changed.headers["etag"]}
        )
        assert (replaced.json()["country"], replaced.json()["name"]) == ("EIRE", None)
        gone = await http.delete("/customers/90001", headers={"If-Match": replaced.headers["etag"]})
        assert gone.status_code == 204
        problem(await http.get("/customers/90001"), 404, "NOT_FOUND")

    shop(ask)


def test_personal_fields_are_ciphertext_in_the_table_and_an_address_is_found_by_its_blind_index(
    shop: Callable[[Ask], None], dsn: str
) -> None:
    async def ask(http: Http) -> None:
        await http.post("/customers", json=ADA)
        (row,) = await rows(dsn, "SELECT * FROM shop.customers")
        assert all(is_ciphertext(row[name]) for name in PERSONAL_FIELDS)
        everything = repr(await rows(dsn, "SELECT * FROM shop.customers, ops.customer_keys"))
        assert not any(ADA[name] in everything for name in PERSONAL_FIELDS)
        found = await http.get("/customers", params={"email": "ADA.Byron@example.com"})
        assert [item["customer_id"] for item in found.json()["items"]] == ["90001"]
        assert (await http.get("/customers", params={"email": "other@example.com"})).json()["items"] == []

    shop(ask)


def test_field_that_did_not_change_keeps_its_ciphertext(shop: Callable[[Ask], None], dsn: str) -> None:
    async def ask(http: Http) -> None:
        made = await http.post("/customers", json=ADA)
        (before,) = await rows(dsn, "SELECT * FROM shop.customers")
        fields = {name: value for name, value in ADA.items() if name != "customer_id"}
        answer = await http.put(
            "/customers/90001", json={**fields, "phone": "+44 1"}, headers={"If-Match": made.headers["etag"]}
        )
        assert answer.status_code == 200, answer.text
        (after,) = await rows(dsn, "SELECT * FROM shop.customers")
        changed = {name for name in before if before[name] != after[name]}
        assert changed == {"phone", "version", "updated_at"}

    shop(ask)


def test_erased_customer_is_unreadable_everywhere_and_can_be_written_anew(
    shop: Callable[[Ask], None], dsn: str
) -> None:
    async def ask(http: Http) -> None:
        once = {"Idempotency-Key": "make-ada"}
        await http.post("/customers", json=ADA, headers=once)
        (copy,) = await rows(dsn, "SELECT * FROM shop.customers")
        assert (await http.delete("/customers/90001/personal-data")).status_code == 204
        shown = (await http.get("/customers/90001")).json()
        assert [shown[name] for name in PERSONAL_FIELDS] == [None] * 4
        assert shown["country"] == ADA["country"]
        # A copy of the row, as topics and backups hold it, comes back: nobody can read it.
        db = await asyncpg.connect(dsn)
        await db.execute("UPDATE shop.customers SET name = $1, email = $2", copy["name"], copy["email"])
        await db.close()
        shown = (await http.get("/customers/90001")).json()
        assert (shown["name"], shown["email"]) == (None, None)
        problem(await http.post("/customers", json=ADA, headers=once), 410, "ANSWER_ERASED")
        again = await http.patch("/customers/90001", json={"name": "New"}, headers={"If-Match": "*"})
        assert again.json()["name"] == "New"
        problem(await http.delete("/customers/none/personal-data"), 404, "NOT_FOUND")

    shop(ask)


def test_change_of_an_outdated_version_is_refused_and_one_without_a_version_too(
    shop: Callable[[Ask], None],
) -> None:
    async def ask(http: Http) -> None:
        tag = (await http.post("/products", json=HEART)).headers["etag"]
        path = "/products/85123A"
        for call in (http.patch(path, json={}), http.put(path, json={}), http.delete(path)):
            problem(await call, 428, "PRECONDITION_REQUIRED")
        assert (await http.patch(path, json={"category": "A"}, headers={"If-Match": tag})).status_code == 200
        for call in (
            http.patch(path, json={"category": "B"}, headers={"If-Match": tag}),
            http.put(path, json={}, headers={"If-Match": f"W/{tag}"}),
            http.delete(path, headers={"If-Match": tag}),
            http.put(path, json={}, headers={"If-None-Match": "*"}),
        ):
            problem(await call, 412, "PRECONDITION_FAILED")
        problem(await http.patch(path, json={}, headers={"If-Match": "1"}), 400, "BAD_INPUT")
        assert (await http.get(path)).json()["category"] == "A"

    shop(ask)


def test_row_made_anew_does_not_have_a_tag_of_its_former_life(shop: Callable[[Ask], None]) -> None:
    async def ask(http: Http) -> None:
        old = (await http.post("/products", json=HEART)).headers["etag"]
        await http.delete("/products/85123A", headers={"If-Match": old})
        await http.post("/products", json=HEART)
        problem(
            await http.patch("/products/85123A", json={}, headers={"If-Match": old}),
            412,
            "PRECONDITION_FAILED",
        )

    shop(ask)


def test_of_many_changes_of_one_version_at_once_one_wins(shop: Callable[[Ask], None]) -> None:
    async def ask(http: Http) -> None:
        tag = (await http.post("/products", json=HEART)).headers["etag"]
        answers = await asyncio.gather(
            *(
                http.patch("/products/85123A", json={"supplier": f"S{i}"}, headers={"If-Match": tag})
                for i in range(8)
            )
        )
        assert sorted(answer.status_code for answer in answers) == [200, *[412] * 7]
        (won,) = [answer.json() for answer in answers if answer.status_code == 200]
        assert (await http.get("/products/85123A")).json() == won

    shop(ask)


def test_unchanged_item_is_not_sent_again(shop: Callable[[Ask], None]) -> None:
    async def ask(http: Http) -> None:
        tag = (await http.post("/products", json=HEART)).headers["etag"]
        same = await http.get("/products/85123A", headers={"If-None-Match": f'"x", W/{tag}'})
        assert (same.status_code, same.content, same.headers["etag"]) == (304, b"", tag)

    shop(ask)


def test_repeated_request_changes_nothing_and_gets_the_same_answer(
    shop: Callable[[Ask], None], dsn: str
) -> None:
    async def ask(http: Http) -> None:
        for path, body in (("/customers", ADA), ("/products", HEART)):
            headers = {"Idempotency-Key": f"key of {path}"}
            first = await http.post(path, json=body, headers=headers)
            again = await http.post(path, json=dict(reversed(body.items())), headers=headers)
            assert (again.status_code, again.content) == (201, first.content)
            assert again.headers["idempotency-replayed"] == "true"
            assert {h: again.headers[h] for h in ("etag", "location")} == {
                h: first.headers[h] for h in ("etag", "location")
            }
            other = await http.post(path, json={**body, "valid_from": "2010-01-01"}, headers=headers)
            problem(other, 422, "IDEMPOTENCY_KEY_REUSED")
        kept = await rows(
            dsn, "SELECT convert_from(body, 'UTF8') AS body FROM ops.idempotency_keys ORDER BY scope"
        )
        assert ADA["email"] not in kept[0]["body"]
        assert HEART["description"] in kept[1]["body"]

    shop(ask)


def test_request_that_failed_is_judged_afresh_under_the_same_key(shop: Callable[[Ask], None]) -> None:
    async def ask(http: Http) -> None:
        level = {"stock_code": "85123A", "location": "MAIN", "quantity": 5}
        headers = {"Idempotency-Key": "level"}
        refused = problem(await http.post("/stock-levels", json=level, headers=headers), 422, "INVALID_BODY")
        assert refused["errors"] == [{"pointer": "/stock_code", "detail": "there is no such product"}]
        await http.post("/products", json=HEART)
        assert (await http.post("/stock-levels", json=level, headers=headers)).status_code == 201

    shop(ask)


def test_same_request_sent_at_once_is_carried_out_once(shop: Callable[[Ask], None], dsn: str) -> None:
    async def ask(http: Http) -> None:
        await http.post("/products", json=HEART)
        headers = {"Idempotency-Key": "k", "If-Match": "*"}
        answers = await asyncio.gather(
            *(http.patch("/products/85123A", json={"category": "C"}, headers=headers) for _ in range(6))
        )
        assert {answer.status_code for answer in answers} <= {200, 409}
        assert len({answer.content for answer in answers if answer.status_code == 200}) == 1
        (row,) = await rows(dsn, "SELECT version FROM shop.products")
        assert row["version"] == 2

    shop(ask)


def test_pages_hold_every_row_once_while_rows_come_and_go(shop: Callable[[Ask], None]) -> None:
    async def ask(http: Http) -> None:
        codes = [f"{number:05}" for number in range(25)]
        for code in codes:
            await http.post("/products", json={"stock_code": code, "category": "AB"[int(code) % 2]})
        seen: list[str] = []
        params = {"first": "10", "category": "A"}
        while True:
            body = (await http.get("/products", params=params)).json()
            seen += [item["stock_code"] for item in body["items"]]
            if body["next"] is None:
                break
            params["after"] = body["next"]
            # One already seen goes, one that sorts before it comes.
            await http.delete(f"/products/{seen[-1]}", headers={"If-Match": "*"})
            await http.post("/products", json={"stock_code": f"0000{len(seen)}x", "category": "A"})
        assert seen == codes[::2]

    shop(ask)


def test_prices_are_found_by_time_and_may_not_overlap(shop: Callable[[Ask], None]) -> None:
    async def ask(http: Http) -> None:
        await http.post("/products", json=HEART)
        price = {
            "stock_code": "85123A",
            "currency": "GBP",
            "price": "2.5",
            "valid_from": "2010-01-01T00:00:00Z",
        }
        made = await http.post("/price-list", json={**price, "valid_to": "2011-01-01T00:00:00Z"})
        assert made.headers["location"] == "/api/v1/price-list/85123A/GBP/2010-01-01T00:00:00Z"
        assert (await http.post("/price-list", json={**price, "valid_from": "2011-01-01"})).status_code == 201
        problem(await http.post("/price-list", json={**price, "valid_from": "2010-06-01"}), 409, "CONFLICT")
        then = await http.get("/price-list", params={"stock_code": "85123A", "at": "2010-12-31T23:59:59Z"})
        assert [item["valid_from"] for item in then.json()["items"]] == ["2010-01-01T00:00:00Z"]
        (path,) = {f"/price-list/85123A/GBP/{item['valid_from']}" for item in then.json()["items"]}
        changed = await http.patch(path, json={"price": 2.125}, headers={"If-Match": made.headers["etag"]})
        assert changed.json()["price"] == "2.125"
        assert (await http.get(path)).json() == changed.json()

    shop(ask)


@pytest.mark.parametrize(
    ("path", "body", "pointer"),
    [
        ("/customers", {**ADA, "email": "no address"}, "/email"),
        ("/customers", {**ADA, "customer_id": " "}, "/customer_id"),
        ("/customers", {**ADA, "customer_id": "a/b"}, "/customer_id"),
        ("/customers", {**ADA, "name": "a\u0000b"}, "/name"),
        ("/customers", {**ADA, "name": "\ud800"}, "/name"),
        ("/customers", {**ADA, "vip": True}, "/vip"),
        ("/customers", {**ADA, "valid_from": 0}, "/valid_from"),
        ("/customers", {**ADA, "valid_from": "0001-01-01"}, "/valid_from"),
        ("/customers", {**ADA, "tier": "Gold!"}, "/tier"),
        ("/products", {**HEART, "list_price": "-1"}, "/list_price"),
        ("/products", {**HEART, "list_price": "1.1234567"}, "/list_price"),
        ("/products", {**HEART, "list_price": True}, "/list_price"),
        ("/products", {**HEART, "list_price": "NaN"}, "/list_price"),
        ("/products", {**HEART, "currency": "XYZ"}, "/currency"),
        ("/products", {"stock_code": "1", "list_price": "1"}, ""),
        ("/stock-levels", {"stock_code": "1", "location": "M", "quantity": 1.5}, "/quantity"),
        ("/stock-levels", {"stock_code": "1", "location": "M"}, "/quantity"),
        (
            "/price-list",
            {"stock_code": "1", "currency": "GBP", "price": "1", "valid_from": "x"},
            "/valid_from",
        ),
    ],
)
def test_fault_is_told_with_its_place(
    shop: Callable[[Ask], None], path: str, body: dict[str, Any], pointer: str
) -> None:
    async def ask(http: Http) -> None:
        headers = {"Content-Type": "application/json"}
        answer = await http.post(path, content=json.dumps(body), headers=headers)
        assert pointer in {fault["pointer"] for fault in problem(answer, 422, "INVALID_BODY")["errors"]}
        assert (await http.get(path)).json() == {"items": [], "next": None}

    shop(ask)


def test_malformed_requests_are_told_what_is_wrong(shop: Callable[[Ask], None]) -> None:
    async def ask(http: Http) -> None:
        json_type = {"Content-Type": "application/json"}
        for content in (
            b"",
            b"{",
            b"[]",
            b'{"customer_id": NaN}',
            b'{"tier": "a", "tier": "b"}',
            b"\xff",
            b"[" * 9999,
        ):
            problem(await http.post("/customers", content=content, headers=json_type), 400, "BAD_INPUT")
        problem(
            await http.post("/customers", content=b"x" * 300_000, headers=json_type), 413, "BODY_TOO_LARGE"
        )
        problem(await http.post("/customers", data={"a": "b"}), 415, "UNSUPPORTED_MEDIA_TYPE")
        for query in (
            "first=0",
            "first=1001",
            "first=x",
            "after=xx",
            "colour=red",
            "tier=a&tier=b",
            "updated_since=x",
        ):
            problem(await http.get(f"/customers?{query}"), 400, "BAD_INPUT")
        # A cursor belongs to its resource.
        for code in ("1", "2"):
            await http.post("/products", json={"stock_code": code})
        after = (await http.get("/products?first=1")).json()["next"]
        problem(await http.get("/customers", params={"after": after}), 400, "BAD_INPUT")
        assert [i["stock_code"] for i in (await http.get(f"/products?after={after}")).json()["items"]] == [
            "2"
        ]

    shop(ask)


def test_customers_need_the_keys_and_products_do_not(dsn: str) -> None:
    async def ask() -> None:
        async with api(dsn, service="query") as http:
            problem(await http.post("/customers", json={"customer_id": "no-keys"}), 503, "KEYS_MISSING")
            assert (await http.get("/products")).status_code == 200

    asyncio.run(ask())


def test_another_master_key_reads_nothing_and_overwrites_nothing(
    shop: Callable[[Ask], None], dsn: str
) -> None:
    async def ask(http: Http) -> None:
        await http.post("/customers", json=ADA)
        async with api(dsn, **{**SECRETS, "master_keys": "ef" * 32}) as other:
            shown = (await other.get("/customers/90001")).json()
            assert [shown[name] for name in PERSONAL_FIELDS] == [None] * 4
            problem(
                await other.patch("/customers/90001", json={"name": "X"}, headers={"If-Match": "*"}),
                503,
                "KEYS_MISSING",
            )
        # Given both, the new one wraps and the old one still reads.
        async with api(dsn, **{**SECRETS, "master_keys": f"{'ef' * 32},{SECRETS['master_keys']}"}) as both:
            assert (await both.get("/customers/90001")).json()["name"] == ADA["name"]

    shop(ask)


def test_every_route_stands_in_the_description_with_an_example_that_works(
    shop: Callable[[Ask], None],
) -> None:
    names = {"customers", "products", "stock-levels", "price-list"}

    async def ask(http: Http) -> None:
        paths = (await http.get("http://query/openapi.json")).json()["paths"]
        v1 = {path: set(ways) for path, ways in paths.items() if {*path.split("/")[3:4]} & names}
        items = {
            "/api/v1/customers/{customer_id}",
            "/api/v1/products/{stock_code}",
            "/api/v1/stock-levels/{stock_code}/{location}",
            "/api/v1/price-list/{stock_code}/{currency}/{valid_from}",
        }
        assert {path for path, ways in v1.items() if ways == {"get", "put", "patch", "delete"}} == items
        assert {path for path, ways in v1.items() if ways == {"get", "post"}} == {
            f"/api/v1/{name}" for name in names
        }
        await http.post("/products", json=HEART)
        for name in sorted(names):
            content = paths[f"/api/v1/{name}"]["post"]["requestBody"]["content"]
            answer = await http.post(f"/{name}", json=content["application/json"]["example"])
            assert answer.status_code == 201, answer.text

    shop(ask)
