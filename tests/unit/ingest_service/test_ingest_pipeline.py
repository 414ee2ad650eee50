"""From bytes to acknowledged records: ids, headers, quarantine records, and nothing answered too early."""

from __future__ import annotations

import json
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from ingest_service import pipeline as steps
from ingest_service.careful import NotJson
from ingest_service.json_body import TooManyItems
from ingest_service.model import SALES, Defaults, Parsed, Refusal, refused_frame
from ingest_service.pipeline import Identified, ItemTooLarge, NotReady
from ingest_service.records import QUARANTINE_TOPIC, RAW_TOPIC, Origin
from ingest_service.settings import IngestSettings
from schemas import identity
from streamkit.ports import BrokerError
from tests.unit.ingest_service.ingest_world import SALE, World

TRACE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
ORIGIN = Origin("load-1", TRACE, "json", ordinals_identify=False)


@pytest.fixture
def world(tmp_path: Path) -> World:
    made = World(tmp_path)
    assert made.gate.look() is None
    return made


def accept(world: World, *items: Any, lines: bool = True) -> Identified:
    body = b"\n".join(item if isinstance(item, bytes) else json.dumps(item).encode() for item in items)
    return world.pipeline.accept_json(body, Defaults(), ORIGIN, lines=lines)


def test_sale_becomes_a_record_keyed_by_its_derived_id(world: World) -> None:
    accept(world, SALE)
    (record,) = world.records(RAW_TOPIC)
    (row,) = world.sales().to_dicts()
    assert row["event_id"] == identity.event_id("web", "536365", 1)
    assert record.key == row["event_id"].encode()
    assert row["unit_price_micros"] == 2_550_000
    assert row["invoice_ts"] == datetime(2010, 12, 1, 8, 26)


def test_id_comes_from_trimmed_values_and_the_record_keeps_what_came(world: World) -> None:
    accept(world, {**SALE, "invoice_no": " 536365 ", "source_system": " web "})
    (row,) = world.sales().to_dicts()
    assert row["event_id"] == identity.event_id("web", "536365", 1)
    assert row["invoice_no"] == " 536365 "


def test_id_that_the_producer_gave_is_kept_trimmed(world: World) -> None:
    accept(world, {**SALE, "event_id": " own-1 ", "line_no": None}, {**SALE, "event_id": " "})
    ids = {record.key for record in world.records(RAW_TOPIC)}
    assert ids == {b"own-1", identity.event_id("web", "536365", 1).encode()}


def test_headers_carry_cloud_events_trace_time_and_load(world: World) -> None:
    accept(world, SALE, {**SALE, "source_system": "till"})
    by_source = {dict(r.headers)["ce_source"]: r for r in world.records(RAW_TOPIC)}
    assert by_source.keys() == {b"web", b"till"}
    record = by_source[b"web"]
    assert dict(record.headers) == {
        "ce_id": record.key,
        "ce_source": b"web",
        "ce_type": b"tillstream.sale.v1",
        "ce_time": b"2023-11-14T22:13:20.000Z",
        "traceparent": TRACE.encode(),
        "ingest-ts": b"1700000000000",
        "load-id": b"load-1",
    }


def test_item_that_cannot_be_read_is_quarantined_with_bytes_reason_and_trace(world: World) -> None:
    bad = json.dumps({**SALE, "invoice_ts": "yesterday"}).encode()
    accept(world, SALE, bad)
    (row,) = world.quarantine().to_dicts()
    assert row["item_id"] == identity.item_id("web", None, bad)
    assert (row["payload"], row["payload_format"], row["ordinal"]) == (bad, "json", 2)
    assert (row["state"], row["stage"], row["reason"], row["rules"]) == (
        "OPEN",
        "ingest",
        "UNDECODABLE",
        ["UNDECODABLE"],
    )
    assert (row["topic_id"], row["partition"], row["offset"]) == (None, None, None)
    assert (row["amount_micros"], row["currency"]) == (15_300_000, "GBP")
    assert (row["load_id"], row["traceparent"]) == ("load-1", TRACE)
    assert row["detail"].startswith('invoice_ts: "yesterday" is not a time')
    assert {r.key for r in world.records(QUARANTINE_TOPIC)} == {row["item_id"].encode()}
    assert world.sales()["event_id"].to_list() == [identity.event_id("web", "536365", 1)]


def test_same_bad_item_again_has_the_same_id(world: World) -> None:
    accept(world, b"nonsense")
    accept(world, SALE, b"nonsense")
    assert world.quarantine()["item_id"].n_unique() == 1


def test_same_bad_line_at_another_place_of_a_file_is_another_item() -> None:
    refused = refused_frame([(n, b"nonsense", Refusal("bad", source_system="web")) for n in (1, 2)])
    for own, distinct in ((True, 2), (False, 1)):
        origin = Origin("load-1", TRACE, "csv", ordinals_identify=own)
        found = steps.identify(Parsed(SALES.to_frame(), refused), origin)
        assert found.refused["item_id"].n_unique() == distinct


def test_outcomes_are_in_the_order_of_the_items(world: World) -> None:
    found = steps.outcomes(accept(world, SALE, b"nonsense", {**SALE, "line_no": 2}))
    assert found.select("index", "outcome", "reason").rows() == [
        (0, "accepted", None),
        (1, "quarantined", "UNDECODABLE"),
        (2, "accepted", None),
    ]
    assert found["event_id"].to_list() == [
        identity.event_id("web", "536365", 1),
        None,
        identity.event_id("web", "536365", 2),
    ]


def test_nothing_counts_as_accepted_before_the_broker_acknowledged(world: World) -> None:
    world.broker.fail_next("produce", BrokerError("no room", retriable=True))
    with pytest.raises(BrokerError):
        accept(world, SALE)
    assert world.actions == []
    assert world.stats.snapshot()["records_out"] == 0
    accept(world, SALE)
    assert world.actions == ["acknowledged"]
    assert world.stats.snapshot()["records_out"] == 1


def test_large_request_is_produced_in_parts_and_completely(world: World, monkeypatch: Any) -> None:
    monkeypatch.setattr(steps, "PART_ROWS", 7)
    items = [b"bad" if n % 5 == 0 else {**SALE, "line_no": n} for n in range(1, 41)]
    identified = accept(world, *items)
    assert len(world.actions) == 5
    keys = [r.key for r in world.records(RAW_TOPIC)]
    wanted = {identity.event_id("web", "536365", n).encode() for n in range(1, 41) if n % 5}
    assert set(keys) == wanted
    assert len(keys) == len(wanted)
    assert len(world.records(QUARANTINE_TOPIC)) == identified.refused.height == 8


def test_broken_document_produces_nothing(world: World) -> None:
    with pytest.raises(NotJson) as caught:
        accept(world, b"[", SALE, b',{"a" 1}]', lines=False)
    assert caught.value.position == len(json.dumps(SALE)) + 9
    assert world.actions == []


def test_request_over_its_bounds_produces_nothing(tmp_path: Path) -> None:
    world = World(tmp_path, settings=IngestSettings(ingest_max_items=2, ingest_max_item=1000))
    world.gate.look()
    with pytest.raises(TooManyItems):
        accept(world, SALE, SALE, SALE)
    with pytest.raises(ItemTooLarge) as caught:
        accept(world, SALE, {**SALE, "description": "x" * 1000})
    assert caught.value.index == 1
    assert world.actions == []


def test_nothing_is_encoded_before_the_registry_answered(tmp_path: Path) -> None:
    world = World(tmp_path)
    world.registry.available = False
    assert "schema registry" in str(world.gate.look())
    with pytest.raises(NotReady):
        accept(world, SALE)
    world.registry.available = True
    assert world.gate.look() is None
    accept(world, SALE)
    assert len(world.records(RAW_TOPIC)) == 1


def test_registry_outage_after_the_start_is_not_noticed(world: World) -> None:
    world.registry.available = False
    assert world.gate.look() is None
    accept(world, SALE)
    assert len(world.records(RAW_TOPIC)) == 1
