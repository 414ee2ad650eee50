"""Micro over HTTP, as a producer's own tests use it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from deploy.local.layout import CHECKOUT
from deploy.micro.server import Micro

SALE = {
    "source_system": "till-7",
    "invoice_no": "1",
    "line_no": 1,
    "stock_code": "85123A",
    "quantity": 1,
    "unit_price": "2.55",
    "currency": "GBP",
    "country": "EIRE",
    "invoice_ts": "2010-12-01T08:26:00Z",
}


@pytest.fixture(scope="module")
def server() -> Iterator[Micro]:
    micro = Micro().start()
    yield micro
    micro.close()


@pytest.fixture
def http(server: Micro) -> Iterator[httpx.Client]:
    server.reset()
    with httpx.Client(base_url=server.url) as client:
        yield client


def items(http: httpx.Client, what: str, **query: str) -> list[dict[str, Any]]:
    answer = http.get(f"/micro/{what}", params=query)
    assert answer.status_code == 200, answer.text
    found: list[dict[str, Any]] = answer.json()["items"]
    return found


def test_good_and_bad_events_are_told_apart_with_reasons(http: httpx.Client) -> None:
    body = [SALE, {**SALE, "line_no": 2, "quantity": 0}, {**SALE, "line_no": 3, "quantity": "six"}]
    answer = http.post("/v1/events/sales", json=body)
    assert (answer.status_code, answer.json()["accepted"], answer.json()["quarantined"]) == (202, 2, 1)
    (good,) = items(http, "good")
    assert (good["country_code"], good["total_amount_micros"]) == ("IE", 2_550_000)
    assert sorted(item["reason"] for item in items(http, "bad")) == ["UNDECODABLE", "ZERO_QUANTITY"]
    assert [item["stage"] for item in items(http, "bad", reason="UNDECODABLE")] == ["ingest"]
    assert http.get("/micro/all").json() == {"good": 1, "bad": 2}


def test_reset_forgets_events_and_their_ids(http: httpx.Client) -> None:
    for _ in range(2):
        http.post("/v1/events/sales", json=SALE)
        assert len(items(http, "good")) == 1
        assert http.post("/micro/reset").json() == {"good": 0, "bad": 0}


def test_ndjson_and_webhooks_are_taken_as_at_ingest(http: httpx.Client) -> None:
    lines = b"\n".join(json.dumps({**SALE, "line_no": n}).encode() for n in (1, 2))
    answer = http.post(
        "/v1/events/sales?load_id=L1",
        content=lines + b"\nno json",
        headers={"Content-Type": "application/x-ndjson"},
    )
    assert (answer.json()["accepted"], answer.json()["load_id"]) == (2, "L1")
    unnamed = {name: value for name, value in SALE.items() if name != "source_system"}
    http.post("/v1/webhooks/shop-1", json=unnamed)
    assert {sale["source_system"] for sale in items(http, "good")} == {"till-7", "shop-1"}
    assert len(items(http, "good", load_id="L1")) == 2


@pytest.mark.parametrize(
    ("path", "body", "status", "said"),
    [
        ("/v1/events/sales", b"{", 400, "no JSON"),
        ("/v1/events/sales", b" ", 400, "empty"),
        ("/v1/events/returns", b"{}", 404, "/v1/events/sales"),
    ],
)
def test_what_cannot_be_taken_is_told(
    http: httpx.Client, path: str, body: bytes, status: int, said: str
) -> None:
    answer = http.post(path, content=body)
    assert answer.status_code == status
    assert said in answer.json()["detail"]
    assert http.get("/micro/all").json() == {"good": 0, "bad": 0}


def test_an_unknown_filter_or_path_is_told(http: httpx.Client) -> None:
    assert "there are" in http.get("/micro/good?colour=red").json()["detail"]
    assert http.get("/micro/other").status_code == 404


def test_the_command_is_ready_within_two_seconds_of_processor_time() -> None:
    """Processor time and not the clock's: the machine of a test run is busy with other tests."""
    code = "from deploy.local.cli import main; raise SystemExit(main(['micro', '--port', '0']))"
    env = {**os.environ, "PYTHONPATH": str(CHECKOUT)}
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, env=env, cwd=CHECKOUT)
    try:
        assert process.stdout is not None
        told = json.loads(process.stdout.readline())
        used = _processor_seconds(process.pid)
        assert httpx.get(f"{told['url']}/ready").json()["state"] == "ready"
        assert used < 2.0, f"{used:.2f} s"
    finally:
        process.terminate()
        assert process.wait(timeout=20) == 0


def _processor_seconds(pid: int) -> float:
    with open(f"/proc/{pid}/stat", encoding="ascii") as file:
        fields = file.read().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
