"""The HTTP side without a database: what is refused, how, and what clients are told when we fail."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from starlette.testclient import TestClient

from query_api.bootstrap import build
from query_api.errors import StoreUnavailableError
from query_api.kpis import Analytics
from query_api.settings import QuerySettings
from query_api.types import Kpis, Range
from query_api.values import parse_decimal

NOWHERE = QuerySettings(postgres="postgresql://nobody@127.0.0.1:1/none", query_max_body_bytes=20_000)
KPIS = Kpis(
    revenue=parse_decimal("1.5"),
    gross_revenue=parse_decimal("2"),
    returns=parse_decimal("-0.5"),
    orders=1,
    lines=2,
    units=5_000_000_000,
    customers=1,
    average_order_value=None,
)


class Door:
    """One application for the module, asked on one event loop."""

    def __init__(self) -> None:
        self._runner = asyncio.Runner()
        transport = httpx.ASGITransport(app=build(NOWHERE), raise_app_exceptions=False)
        self._http = httpx.AsyncClient(transport=transport, base_url="http://query")

    def post(self, content: bytes | str, **headers: str) -> httpx.Response:
        sent = {"Content-Type": "application/json", **headers}
        return self._runner.run(self._http.post("/graphql", content=content, headers=sent))

    def ask(self, query: str, **headers: str) -> httpx.Response:
        return self.post(json.dumps({"query": query}), **headers)

    def get(self, path: str, **headers: str) -> httpx.Response:
        return self._runner.run(self._http.get(path, headers=headers))

    def close(self) -> None:
        self._runner.close()


@pytest.fixture(scope="module")
def door() -> Iterator[Door]:
    made = Door()
    yield made
    made.close()


@pytest.fixture
def kpis(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Analytics that answers with the last element, or raises it."""
    answers: list[Any] = [KPIS]

    async def answer(*_: Any) -> Kpis:
        if isinstance(answers[-1], Exception):
            raise answers[-1]
        found: Kpis = answers[-1]
        return found

    monkeypatch.setattr(Analytics, "kpis", answer)
    return answers


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "not JSON"),
        (b"{", "not JSON"),
        (b"\xff\xfe", "not JSON"),
        (b"[" * 5000, "not JSON"),
        (b"[]", "batches"),
        (b"7", "object"),
        (b"{}", "query"),
        (b'{"query": 7}', "query"),
        (b'{"query": " "}', "query"),
        (b'{"query": "{kpis{lines}}", "variables": []}', "variables"),
        (b'{"query": "{kpis{lines}}", "operationName": 1}', "operationName"),
        (b'{"query": "query A{kpis{lines}}", "operationName": "B"}', "B"),
    ],
)
def test_malformed_request_is_a_clear_400(door: Door, content: bytes, says: str) -> None:
    answer = door.post(content)
    assert answer.status_code == 400
    assert answer.headers["content-type"] == "application/problem+json"
    assert says in answer.json()["detail"]
    assert len(answer.json()["trace_id"]) == 32


def test_other_content_types_and_large_bodies_are_refused(door: Door) -> None:
    assert door.post(b"{}", **{"Content-Type": "text/plain"}).status_code == 415
    assert door.post(b'{"query":"' + b"x" * 30_000 + b'"}').status_code == 413


@pytest.mark.parametrize(
    ("query", "code", "says"),
    [
        ("{", "INVALID", "Syntax Error"),
        ("{nope}", "INVALID", "nope"),
        ("mutation{nope}", "INVALID", "mutation"),
        ("{sales(first:1001){totalCount}}", "TOO_COSTLY", "between 0 and 1000"),
        ("{" + "kpis{lines} " * 30 + "}", "TOO_COSTLY", "more than"),
        ("{" + "a" * 3 + " b" * 3000 + "}", "INVALID", "tokens"),
        ("{" + "kpis{" * 900 + "}" * 900 + "}", "INVALID", "nested"),
        ('{kpis(asOf:"soon"){lines}}', "INVALID", "8601"),
        ('{kpis(range:{from:"2010-13-01"}){lines}}', "INVALID", "YYYY-MM-DD"),
    ],
)
def test_query_that_cannot_be_answered_says_why(door: Door, query: str, code: str, says: str) -> None:
    answer = door.ask(query)
    error = answer.json()["errors"][0]
    assert (answer.status_code, error["extensions"]["code"]) == (200, code)
    assert says in error["message"]
    assert door.ask(query, Accept="application/graphql-response+json").status_code == 400


def test_answer_writes_amounts_as_text(door: Door, kpis: list[Any]) -> None:
    answer = door.ask("{kpis{revenue returns averageOrderValue orders}}")
    assert answer.json() == {
        "data": {"kpis": {"revenue": "1.50", "returns": "-0.50", "averageOrderValue": None, "orders": 1}}
    }


def test_figure_too_large_for_graphqls_int_fails_alone(door: Door, kpis: list[Any]) -> None:
    assert "errors" not in door.ask("{kpis{lines}}").json()
    error = door.ask("{kpis{units}}").json()["errors"][0]
    assert "32-bit" in error["message"]
    assert door.get("/api/v2/analytics/kpis").json()["units"] == 5_000_000_000


def test_our_own_failure_is_masked_behind_a_trace_id(
    door: Door, kpis: list[Any], caplog: pytest.LogCaptureFixture
) -> None:
    kpis.append(RuntimeError("secret detail"))
    answer = door.ask("{kpis{lines}}")
    assert "secret" not in answer.text
    told = answer.json()["errors"][0]["extensions"]
    assert told["code"] == "INTERNAL"
    assert [r.trace_id for r in caplog.records if r.name == "query_api.guard"] == [told["traceId"]]  # type: ignore[attr-defined]
    rest = door.get("/api/v2/analytics/kpis")
    assert (rest.status_code, "secret" in rest.text) == (500, False)
    assert len(rest.json()["trace_id"]) == 32


def test_unavailable_store_is_503_with_problem_json_and_retry_after(door: Door, kpis: list[Any]) -> None:
    kpis.append(StoreUnavailableError("Postgres does not answer"))
    for answer in (door.ask("{kpis{lines}}"), door.get("/api/v2/analytics/kpis")):
        assert answer.status_code == 503
        assert answer.headers["content-type"] == "application/problem+json"
        assert answer.headers["retry-after"] == "1"
        assert answer.json()["code"] == "STORE_UNAVAILABLE"
    assert door.ask("{kpis{lines}}").json()["errors"][0]["path"] == ["kpis"]


@pytest.mark.parametrize(
    ("query", "says"),
    [
        ("kpis?from=x", "from"),
        ("kpis?as_of=soon", "8601"),
        ("top-products?by=size", "revenue, quantity"),
        ("top-products?first=1001", "first"),
        ("sales-series?grain=week", "minute, hour, day, month, year"),
    ],
)
def test_rest_argument_that_cannot_be_says_why(door: Door, query: str, says: str) -> None:
    answer = door.get(f"/api/v2/analytics/{query}")
    assert answer.status_code in (400, 422)
    assert answer.headers["content-type"] == "application/problem+json"
    assert says in answer.json()["detail"]


def test_rest_passes_its_arguments_on(door: Door, monkeypatch: pytest.MonkeyPatch) -> None:
    given: list[Any] = []

    async def answer(_: Any, *arguments: Any) -> Kpis:
        given.append(arguments)
        return KPIS

    monkeypatch.setattr(Analytics, "kpis", answer)
    door.get("/api/v2/analytics/kpis?from=2010-12-01&to=2010-12-02&country=EIRE&as_of=2011-01-01T00:00:00Z")
    span, country, at = given[0]
    assert isinstance(span, Range)
    assert (str(span.from_), str(span.to), country, at.year) == ("2010-12-01", "2010-12-02", "EIRE", 2011)


def test_pages_work_offline_and_carry_security_headers(door: Door) -> None:
    for path in ("/", "/docs"):
        page = door.get(path)
        assert (page.status_code, page.headers["x-content-type-options"]) == (200, "nosniff")
        assert "default-src 'self'" in page.headers["content-security-policy"]
        assert "http://" not in page.text.replace("http://query", "")
        assert "https://" not in page.text
    assert "averageOrderValue" in door.get("/docs").text
    assert "/api/v2/analytics/kpis" in door.get("/docs").text
    for asset in ("console.js", "docs.js", "style.css"):
        assert door.get(f"/static/{asset}").status_code == 200


def test_graphql_by_get_leads_browsers_to_the_reference(door: Door) -> None:
    assert door.get("/graphql", Accept="text/html").headers["location"] == "/docs"
    refused = door.get("/graphql")
    assert (refused.status_code, refused.headers["allow"]) == (405, "POST")


def test_health_stats_and_metrics_need_no_store(door: Door) -> None:
    assert door.get("/health").json() == {"status": "alive"}
    assert door.get("/ready").status_code == 503
    assert set(door.get("/stats").json()) == {
        "name", "state", "lag", "lag_seconds", "p50_ms", "p99_ms", "records_in", "records_out",
        "live_ms",
    }  # fmt: skip
    assert "tillstream_query_request_seconds" in door.get("/metrics").text


def test_websocket_answers_questions_and_guards_them(kpis: list[Any]) -> None:
    with (
        TestClient(build(NOWHERE)) as client,
        client.websocket_connect("/graphql", subprotocols=["graphql-transport-ws"]) as socket,
    ):
        socket.send_json({"type": "connection_init"})
        assert socket.receive_json()["type"] == "connection_ack"

        def told(query: str) -> str:
            socket.send_json({"id": "1", "type": "subscribe", "payload": {"query": query}})
            message = socket.receive_json()
            if message["type"] == "next":
                assert socket.receive_json()["type"] == "complete"
            return json.dumps(message["payload"])

        assert '"revenue": "1.50"' in told("{kpis{revenue}}")
        assert "between 0 and 1000" in told("{sales(first:5000){totalCount}}")
        assert "Syntax Error" in told("{")
        assert "nope" in told("{nope}")
        kpis.append(RuntimeError("secret detail"))
        masked = told("{kpis{revenue}}")
        assert "secret" not in masked
        assert "INTERNAL" in masked
