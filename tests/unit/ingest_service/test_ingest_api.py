"""What a client sees: answers, bounds, and errors that say what to do."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from ingest_service.rate_limit import RedisRateLimiter, Verdict
from ingest_service.records import RAW_TOPIC
from ingest_service.settings import IngestSettings
from schemas import identity
from streamkit.ports import BrokerError
from tests.unit.ingest_service.ingest_world import HEADER, SALE, World

URL = "/v1/events/sales"
NDJSON = {"Content-Type": "application/x-ndjson"}


@pytest.fixture
def world(tmp_path: Path) -> World:
    return ready(World(tmp_path))


def ready(world: World) -> World:
    assert world.gate.look() is None
    return world


def call(world: World, method: str, url: str, **arguments: Any) -> httpx.Response:
    async def one() -> httpx.Response:
        async with world.client() as client:
            return await client.request(method, url, **arguments)

    return asyncio.run(one())


def problem(response: httpx.Response, status: int) -> str:
    assert response.status_code == status
    assert response.headers["content-type"] == "application/problem+json"
    told = response.json()
    assert told["status"] == status
    return str(told["detail"])


@pytest.mark.parametrize(
    ("content", "headers"),
    [
        (json.dumps(SALE), {}),
        (json.dumps([SALE]), {"Content-Type": "application/json"}),
        ("\ufeff" + json.dumps(SALE), {}),
        (json.dumps(SALE) + "\n\n", {"Content-Type": "application/x-ndjson; charset=utf-8"}),
    ],
)
def test_object_array_and_lines_are_answered_in_one_shape(
    world: World, content: str, headers: dict[str, str]
) -> None:
    response = call(world, "POST", URL, content=content.encode(), headers=headers)
    assert response.status_code == 202
    answer = response.json()
    event_id = identity.event_id("web", "536365", 1)
    assert answer["items"] == [
        {"index": 0, "outcome": "accepted", "event_id": event_id, "reason": None, "detail": None}
    ]
    (record,) = world.records(RAW_TOPIC)
    assert dict(record.headers)["load-id"] == answer["load_id"].encode()


def test_quarantined_item_is_answered_beside_its_accepted_neighbour(world: World) -> None:
    response = call(world, "POST", URL, json=[{**SALE, "line_no": None}, SALE])
    first, second = response.json()["items"]
    assert (first["outcome"], first["reason"], first["event_id"]) == ("quarantined", "UNDECODABLE", None)
    assert first["detail"].startswith("line_no: missing")
    assert second["outcome"] == "accepted"


def test_items_false_leaves_the_list_out_and_keeps_the_counts(world: World) -> None:
    response = call(world, "POST", f"{URL}?items=false&load_id=night-1", json=[SALE, 5])
    assert response.json() == {"load_id": "night-1", "accepted": 1, "quarantined": 1}


def test_source_and_currency_of_the_request_fill_in(world: World) -> None:
    bare = {name: value for name, value in SALE.items() if name not in ("source_system", "currency")}
    call(world, "POST", f"{URL}?source=feed&currency=EUR", json=bare)
    assert world.sales().select("source_system", "currency").rows() == [("feed", "EUR")]


def test_webhook_takes_its_source_from_the_path(world: World) -> None:
    bare = {name: value for name, value in SALE.items() if name != "source_system"}
    response = call(world, "POST", "/v1/webhooks/shop.1", json=[bare, SALE])
    assert [item["outcome"] for item in response.json()["items"]] == ["accepted", "quarantined"]
    assert world.sales()["source_system"].to_list() == ["shop.1"]


def test_trace_of_the_request_goes_on_in_the_records(world: World) -> None:
    trace = "0af7651916cd43dd8448eb211c80319c"
    call(world, "POST", URL, json=SALE, headers={"traceparent": f"00-{trace}-b7ad6b7169203331-01"})
    (record,) = world.records(RAW_TOPIC)
    carried = dict(record.headers)["traceparent"] or b""
    assert carried.decode().split("-")[1] == trace
    call(world, "POST", URL, json={**SALE, "line_no": 2})
    fresh = {(dict(r.headers)["traceparent"] or b"").split(b"-")[1] for r in world.records(RAW_TOPIC)}
    assert len(fresh) == 2


@pytest.mark.parametrize(
    ("content", "told", "place"),
    [
        (b'{"a":1,', "not JSON", (1, 8)),
        (b'[\n{"a" 1}]', "not JSON", (2, 6)),
        (b"[{}", "the array is not closed", (1, 4)),
        (b"{}\n{}", "application/x-ndjson", (2, 1)),
        (b"hello", "object or array is expected", (1, 1)),
        (b'{"a":"\xff"}', "not UTF-8", (1, 7)),
    ],
)
def test_body_that_is_no_json_is_400_with_its_place(
    world: World, content: bytes, told: str, place: tuple[int, int]
) -> None:
    response = call(world, "POST", URL, content=content)
    assert told in problem(response, 400)
    assert (response.json()["line"], response.json()["column"]) == place
    assert world.actions == []


@pytest.mark.parametrize("content", [b"", b" \n"])
def test_empty_body_is_400(world: World, content: bytes) -> None:
    assert "empty" in problem(call(world, "POST", URL, content=content, headers=NDJSON), 400)
    assert "empty" in problem(call(world, "POST", "/v1/webhooks/a", content=content), 400)


def test_empty_array_is_accepted_as_nothing(world: World) -> None:
    assert call(world, "POST", URL, content=b"[]").json()["items"] == []


@pytest.mark.parametrize("url", [URL, "/v1/webhooks/a", "/v1/files"])
@pytest.mark.parametrize("announced", [True, False])
def test_body_over_the_limit_is_413_without_being_read_to_its_end(
    tmp_path: Path, url: str, announced: bool
) -> None:
    settings = IngestSettings(ingest_max_body=100_000, ingest_max_file=100_000)
    world = ready(World(tmp_path, settings=settings))
    sent = 0

    async def body() -> AsyncIterator[bytes]:
        nonlocal sent
        for _ in range(100):
            sent += 10_000
            yield b"x" * 10_000

    headers = {"Content-Length": "1000000"} if announced else {}
    response = call(world, "POST", url, content=body(), headers=headers)
    assert "larger than 100000 bytes" in problem(response, 413)
    assert sent <= (10_000 if announced else 120_000)
    assert list((tmp_path / "jobs").iterdir()) == []


def test_too_many_items_and_too_large_an_item_are_413(tmp_path: Path) -> None:
    world = ready(World(tmp_path, settings=IngestSettings(ingest_max_items=2, ingest_max_item=1000)))
    assert "more than 2 items" in problem(call(world, "POST", URL, json=[SALE] * 3), 413)
    big = {**SALE, "description": "x" * 1000}
    assert "item 1 has" in problem(call(world, "POST", URL, json=[SALE, big]), 413)


def test_compressed_body_is_415(world: World) -> None:
    response = call(world, "POST", URL, content=b"x", headers={"Content-Encoding": "gzip"})
    assert "gzip" in problem(response, 415)


def test_broker_down_is_503_with_retry_after_and_recovers(world: World) -> None:
    world.broker.fail_next("produce", BrokerError("broker down", retriable=True))
    response = call(world, "POST", URL, json=SALE)
    assert "send the same request again" in problem(response, 503)
    assert int(response.headers["retry-after"]) > 0
    assert call(world, "POST", URL, json=SALE).status_code == 202


def test_not_ready_is_503_with_retry_after_and_says_so_at_ready(tmp_path: Path) -> None:
    world = World(tmp_path)
    response = call(world, "POST", URL, json=SALE)
    assert "registry" in problem(response, 503)
    assert "retry-after" in response.headers
    assert call(world, "GET", "/ready").status_code == 503
    ready(world)
    assert call(world, "GET", "/ready").json() == {"state": "ready", "reason": None}


def test_crowd_is_503_and_the_place_is_given_back(tmp_path: Path) -> None:
    world = ready(World(tmp_path, settings=IngestSettings(ingest_max_requests=1)))
    with world.admission.request():
        assert "1 requests are under way" in problem(call(world, "POST", URL, json=SALE), 503)
    assert call(world, "POST", URL, json=SALE).status_code == 202


def test_bytes_in_flight_are_bounded_and_given_back(tmp_path: Path) -> None:
    world = ready(World(tmp_path, settings=IngestSettings(ingest_max_in_flight=400)))
    for _ in range(3):
        assert call(world, "POST", URL, json=SALE).status_code == 202
        assert "400 bytes" in problem(call(world, "POST", URL, json=[SALE] * 2), 503)


def test_rate_limit_is_429_with_its_headers(world: World) -> None:
    world.limiter.verdict = Verdict(False, 5, 0, 1)
    response = call(world, "POST", URL, json=SALE)
    assert "more than 5 requests a second" in problem(response, 429)
    assert response.headers["retry-after"] == "1"
    assert response.headers["ratelimit-remaining"] == "0"
    world.limiter.verdict = Verdict(True, 5, 4, 1)
    assert call(world, "POST", URL, json=SALE).headers["ratelimit-limit"] == "5"
    world.limiter.verdict = None
    assert call(world, "POST", URL, json=SALE).status_code == 202


def test_redis_down_lets_requests_through_and_counts_it(world: World) -> None:
    limiter = RedisRateLimiter("redis://127.0.0.1:1", 5, world.metrics)

    async def twice() -> list[Verdict | None]:
        return [await limiter.hit("client"), await limiter.hit("client")]

    assert asyncio.run(twice()) == [None, None]
    assert world.stats.registry.get_sample_value("tillstream_ingest_rate_limiter_failures_total") == 2


def test_any_authorization_is_accepted(world: World) -> None:
    assert call(world, "POST", URL, json=SALE, headers={"Authorization": "Bearer x"}).status_code == 202


@pytest.mark.parametrize("url", ["/v1/jobs/none", "/v1/jobs/..%2f..%2fetc", "/nowhere"])
def test_unknown_place_is_404_as_a_problem(world: World, url: str) -> None:
    problem(call(world, "GET", url), 404)


def test_wrong_parameters_are_400_naming_them(world: World) -> None:
    assert "load_id" in problem(call(world, "POST", f"{URL}?load_id=a%20b", json=SALE), 400)
    assert "currency" in problem(call(world, "POST", f"{URL}?currency=pound", json=SALE), 400)


def test_empty_file_is_400_and_leaves_nothing(world: World, tmp_path: Path) -> None:
    assert "the file is empty" in problem(call(world, "POST", "/v1/files", content=b""), 400)
    assert list((tmp_path / "jobs").iterdir()) == []


def test_file_is_stored_before_it_is_answered(world: World) -> None:
    response = call(world, "POST", "/v1/files?load_id=l1&source=shop&name=a.csv", content=HEADER)
    assert response.status_code == 202
    job = call(world, "GET", f"/v1/jobs/{response.json()['job_id']}").json()
    assert job == {
        "job_id": response.json()["job_id"],
        "load_id": "l1",
        "name": "a.csv",
        "state": "running",
        "accepted": 0,
        "quarantined": 0,
        "bytes": len(HEADER),
        "error": None,
    }


def test_probes_answer(world: World) -> None:
    call(world, "POST", URL, json=[SALE, 5])
    assert call(world, "GET", "/health").json() == {"status": "alive"}
    stats = call(world, "GET", "/stats").json()
    assert (stats["name"], stats["state"], stats["records_in"], stats["records_out"]) == (
        "ingest",
        "ready",
        2,
        2,
    )
    metrics = call(world, "GET", "/metrics").text
    assert 'tillstream_ingest_items_total{door="json",outcome="quarantined"} 1.0' in metrics


def test_heartbeat_goes_the_way_of_a_sale_under_an_id_that_nobody_else_may_use(world: World) -> None:
    response = call(world, "POST", "/v1/heartbeat")
    assert response.status_code == 202
    (record,) = world.records(RAW_TOPIC)
    event_id = response.json()["event_id"]
    assert record.key == event_id.encode()
    assert event_id.startswith("tillstream.heartbeat/")
    headers = dict(record.headers)
    assert headers["ce_source"] == b"tillstream.heartbeat"
    assert headers["ingest-ts"] == str(world.clock.now_ms()).encode()
    assert headers["traceparent"]


@pytest.mark.parametrize("count", [1, 40])
def test_item_with_an_id_of_the_platform_is_quarantined_and_its_neighbours_accepted(
    world: World, count: int
) -> None:
    own = {**SALE, "event_id": "tillstream.heartbeat/1"}
    others = [{**SALE, "line_no": n + 1} for n in range(count)]
    items = call(world, "POST", URL, json=[own, *others]).json()["items"]
    assert [item["outcome"] for item in items] == ["quarantined", *["accepted"] * count]
    assert "the platform's own" in items[0]["detail"]


def test_heartbeat_is_refused_with_a_time_to_try_again_while_the_broker_is_away(tmp_path: Path) -> None:
    world = World(tmp_path)
    response = call(world, "POST", "/v1/heartbeat")
    assert "not ready" in problem(response, 503)
    assert response.headers["Retry-After"]
