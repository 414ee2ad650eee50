"""Bad input through every door: a clear answer or a quarantined item, and its neighbours in gold."""

from __future__ import annotations

import io
import json
import struct
import uuid
from pathlib import Path
from typing import Any

import fastavro
import pytest
from confluent_kafka import Producer

from deploy.local.layout import CHECKOUT
from tests.e2e.conftest import Probe

RAW_SCHEMA = json.loads((CHECKOUT / "schemas" / "avro" / "sales.raw.v1.avsc").read_text())


@pytest.fixture
def source() -> str:
    return f"bad-{uuid.uuid4().hex[:8]}"


def sale(source: str, line: int, **changes: Any) -> dict[str, Any]:
    return {
        "source_system": source,
        "invoice_no": "1",
        "line_no": line,
        "stock_code": "85123A",
        "quantity": 1,
        "unit_price": "2.55",
        "currency": "GBP",
        "invoice_ts": "2011-01-04T10:00:00Z",
    } | changes


def gold_lines(probe: Probe, source: str) -> set[int]:
    """Lines of a source that the warehouse holds."""
    rows = probe.sql("select line_no from warehouse.fact_sales where source_system = $1", source)
    return {row["line_no"] for row in rows}


def quarantined(probe: Probe, payload: bytes) -> list[dict[str, Any]]:
    return probe.sql("select reason, detail, payload from ops.quarantine where payload = $1", payload)


def test_a_body_that_is_no_json_is_refused_and_accepts_nothing(probe: Probe, source: str) -> None:
    answer = probe.post(json.dumps(sale(source, 1)).encode()[:-5])
    assert answer.status_code == 400
    assert "not JSON" in answer.json()["detail"]
    assert gold_lines(probe, source) == set()


def test_a_body_over_the_limit_is_refused(probe: Probe) -> None:
    assert probe.post(b" " * (33 << 20)).status_code == 413


def test_a_malformed_line_is_quarantined_and_its_neighbours_are_gold(probe: Probe, source: str) -> None:
    broken = f'{{"source_system": "{source}", "invoice_no": '.encode()
    body = b"\n".join([json.dumps(sale(source, 1)).encode(), broken, json.dumps(sale(source, 2)).encode()])
    answer = probe.post(body, "application/x-ndjson").json()
    assert [item["outcome"] for item in answer["items"]] == ["accepted", "quarantined", "accepted"]
    probe.wait_for(lambda: gold_lines(probe, source) == {1, 2}, 30, "the neighbours in gold")
    probe.wait_for(lambda: bool(quarantined(probe, broken)), 30, "the broken line in quarantine")
    assert [item["reason"] for item in quarantined(probe, broken)] == ["UNDECODABLE"]


def test_an_item_without_id_and_line_is_refused_alone(probe: Probe, source: str) -> None:
    nameless = sale(source, 1)
    del nameless["line_no"]
    answer = probe.post(json.dumps([nameless, sale(source, 2)]).encode()).json()
    assert [item["outcome"] for item in answer["items"]] == ["quarantined", "accepted"]
    assert "line_no" in answer["items"][0]["detail"]
    probe.wait_for(lambda: gold_lines(probe, source) == {2}, 30, "the neighbour in gold")


def test_avro_that_cannot_be_read_is_quarantined_with_its_bytes(probe: Probe, source: str) -> None:
    schema = fastavro.parse_schema(RAW_SCHEMA)
    registry = probe.http.get(
        f"{probe.platform.urls['registry']}/subjects/sales.raw.v1-value/versions/latest"
    )
    schema_id = registry.json()["id"]

    def framed(line: int, number: int = schema_id) -> bytes:
        buffer = io.BytesIO()
        record = sale(source, line) | {
            "event_id": "",
            "unit_price_micros": 2_550_000,
            "description": None,
            "customer_id": None,
            "country": None,
            "invoice_ts": 1_294_135_200_000,
            "attributes": {},
        }
        fastavro.schemaless_writer(buffer, schema, record)
        return struct.pack(">bI", 0, number) + buffer.getvalue()

    bad = {
        "truncated": framed(11)[:-9],
        "wrong magic byte": b"\x07" + framed(12)[1:],
        "unknown schema id": framed(13, 987_654_321),
        "no frame": source.encode(),
    }
    producer = Producer({"bootstrap.servers": probe.platform.urls["kafka"]})
    for value in [framed(1), *bad.values(), framed(2)]:
        producer.produce("sales.raw.v1", value)
    assert producer.flush(30) == 0
    probe.wait_for(lambda: gold_lines(probe, source) == {1, 2}, 60, "the neighbours in gold")
    for name, value in bad.items():
        probe.wait_for(lambda value=value: bool(quarantined(probe, value)), 30, name)  # type: ignore[misc]
        assert [item["reason"] for item in quarantined(probe, value)] == ["UNDECODABLE"], name


def test_an_empty_file_is_refused_with_a_clear_error(probe: Probe, tmp_path: Path) -> None:
    empty = tmp_path / "empty.csv"
    empty.touch()
    report = probe.load(empty, expect=1)
    assert "empty" in report["failed"][0]["error"]


def test_a_file_without_a_needed_column_is_refused_by_name(probe: Probe, tmp_path: Path) -> None:
    short = tmp_path / "short.csv"
    short.write_text("InvoiceNo,StockCode,Description,InvoiceDate,UnitPrice,CustomerID,Country\n")
    report = probe.load(short, expect=1)
    assert "Quantity" in report["failed"][0]["error"]


def test_a_bad_line_of_a_file_is_quarantined_and_keeps_its_ordinal(
    probe: Probe, source: str, tmp_path: Path
) -> None:
    header = "InvoiceNo,StockCode,Description,Quantity,InvoiceDate,UnitPrice,CustomerID,Country"
    good = "1,85123A,LANTERN,6,2011-01-04 10:00:00,2.55,17850.0,EIRE"
    bad = "1,85123A,LANTERN,six,2011-01-04 10:00:00,2.55,17850.0,EIRE"
    file = tmp_path / "lines.csv"
    file.write_text("\n".join([header, good, bad, good]) + "\n")
    report = probe.load(file, source=source)
    assert (report["accepted"], report["gold"], report["quarantined"]) == (3, 2, 1)
    assert gold_lines(probe, source) == {1, 3}


def test_the_ledger_balances_after_all_of_it(probe: Probe) -> None:
    probe.wait_for(lambda: probe.ledger()["in_flight"] == 0, 60, "nothing in flight")
    ledger = probe.ledger()
    assert (ledger["balanced"], ledger["missing"]) == (True, [])
