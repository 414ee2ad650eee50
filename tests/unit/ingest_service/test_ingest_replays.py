"""Replays come in by the door of every sale, and each names the item that it mends."""

from __future__ import annotations

import asyncio
import io
from pathlib import Path

import httpx
import orjson
import pytest

from ingest_service import csv_sales
from ingest_service.model import Defaults
from schemas.identity import event_id
from tests.unit.ingest_service.ingest_world import HEADER, SALE, World


@pytest.fixture
def world(tmp_path: Path) -> World:
    world = World(tmp_path)
    world.gate.look()
    return world


def line(item: str, sale: object, attempt: object = 2) -> bytes:
    return orjson.dumps({"item_id": item, "attempt": attempt, "sale": sale})


def post(world: World, *lines: bytes, load: str = "replay-1") -> httpx.Response:
    async def one() -> httpx.Response:
        async with world.client() as client:
            return await client.post(f"/v1/replays/sales?load_id={load}", content=b"\n".join(lines))

    return asyncio.run(one())


def test_a_replayed_sale_keeps_its_event_id_and_names_its_item(world: World) -> None:
    given = {**SALE, "event_id": "event-1"}
    answer = post(world, line("item-1", given), line("item-2", SALE, attempt=1))
    assert answer.status_code == 202, answer.text
    assert answer.json() == {"load_id": "replay-1", "accepted": 2, "quarantined": 0, "items": []}
    assert sorted(world.sales()["event_id"]) == sorted(["event-1", event_id("web", "536365", 1)])
    told = {dict(r.headers)["ce_id"]: dict(r.headers) for r in world.records("sales.raw.v1")}
    assert told[b"event-1"]["replay-of"] == b"item-1"
    assert told[b"event-1"]["replay-attempt"] == b"2"
    assert told[b"event-1"]["load-id"] == b"replay-1"


def test_a_replay_that_cannot_be_read_says_so_of_its_item_and_opens_none(world: World) -> None:
    answer = post(world, line("item-1", {**SALE, "quantity": "six"}), line("item-2", SALE))
    assert (answer.json()["accepted"], answer.json()["quarantined"]) == (1, 1)
    (refused,) = answer.json()["items"]
    assert (refused["item_id"], refused["index"]) == ("item-1", 0)
    assert "quantity" in refused["detail"]
    (told,) = world.quarantine().to_dicts()
    assert (told["item_id"], told["state"], told["attempts"]) == ("item-1", "RETRIED", 2)
    assert "quantity" in told["detail"]


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (b"{", "line 1: not JSON"),
        (b"{}", "a replay is"),
        (line("", SALE), "item_id"),
        (line("item-1", SALE, attempt=0), "attempt"),
        (line("item-1", SALE, attempt=True), "attempt"),
        (line("item-1", [SALE]), "sale is an object"),
    ],
)
def test_what_is_no_replay_is_refused_and_nothing_is_sent(world: World, body: bytes, said: str) -> None:
    answer = post(world, body)
    assert answer.status_code == 400
    assert said in answer.json()["detail"]
    assert world.records("sales.raw.v1") == []


def test_a_load_id_that_is_no_replays_is_refused(world: World) -> None:
    assert post(world, line("item-1", SALE), load="day-1").status_code == 400


def test_a_refused_line_of_a_file_keeps_what_its_replay_needs(world: World) -> None:
    body = HEADER + b"1,A,x,1,2010-12-01 08:26:00,1,,X\n1,A,x,six,2010-12-01 08:26:00,1,,X\n"
    (parsed,) = csv_sales.parse(io.BytesIO(body), Defaults("shop", "GBP"))
    (context,) = parsed.refused["context"]
    told = orjson.loads(context)
    assert told["columns"][:4] == ["invoice_no", "stock_code", "description", "quantity"]
    assert (told["line_no"], told["source_system"], told["currency"]) == (2, "shop", "GBP")
