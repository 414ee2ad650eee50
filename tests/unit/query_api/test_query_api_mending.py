"""From quarantined bytes to what is sent again: every format, every kind of flaw."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import orjson
import polars as pl
import pytest

from query_api.errors import BadInputError
from query_api.quarantine import received
from query_api.quarantine.mending import Mended, mend, order
from schemas.catalogue import load_topics
from schemas.codec import Codec
from schemas.fakes import InMemoryRegistry

AT = datetime(2026, 11, 22, 9, 30, tzinfo=UTC)
CSV_COLUMNS = ["invoice_no", "stock_code", "description", "quantity", "invoice_ts", "unit_price", "Till"]
RAW = load_topics()["sales.raw.v1"]
REGISTRY = InMemoryRegistry()
SCHEMA_ID = REGISTRY.register(RAW.subject, RAW.schema_text)
CODEC = Codec(RAW.schema_text, REGISTRY)


def item(payload: bytes, kind: str, **given: Any) -> dict[str, Any]:
    return {
        "item_id": "item-1",
        "stage": "ingest",
        "event_id": None,
        "reason": "UNDECODABLE",
        "detail": "why",
        "source_system": "till-7",
        "load_id": "L1",
        "ordinal": 1,
        "attempts": 0,
        "currency": None,
        "ingest_ts": AT,
        "quarantined_ts": AT,
        "payload": payload,
        "payload_format": kind,
        "context": None,
        **given,
    }


def csv_item(line: str) -> dict[str, Any]:
    context = {"columns": CSV_COLUMNS, "line_no": 3, "source_system": "shop", "currency": "GBP"}
    return item(line.encode(), "csv", context=orjson.dumps(context).decode())


def avro_item(**given: Any) -> dict[str, Any]:
    sale = {
        "event_id": "event-1",
        "source_system": "till-7",
        "invoice_no": "536365",
        "line_no": 1,
        "stock_code": "85123A",
        "description": None,
        "quantity": -6,
        "unit_price_micros": 2_550_000,
        "currency": "GBP",
        "customer_id": "17850",
        "country": "EIRE",
        "invoice_ts": datetime(2010, 12, 1, 8, 26),
        "attributes": {"till": "4"},
        **given,
    }
    (value,) = CODEC.encode(pl.DataFrame([sale], schema=CODEC.columns), SCHEMA_ID)
    return item(value, "avro", stage="quality", event_id=sale["event_id"], reason="NEGATIVE_QUANTITY")


def replayed(where: str, assignments: dict[str, str], *items: dict[str, Any]) -> list[Mended]:
    return mend(received.read(items, CODEC), order(where, assignments))


def test_a_refused_sale_is_sent_as_it_was_with_the_field_set() -> None:
    (found,) = replayed("quantity < 0", {"invoice_no": "'C' || invoice_no"}, avro_item())
    assert found.sale == {
        "event_id": "event-1",
        "source_system": "till-7",
        "invoice_no": "C536365",
        "line_no": 1,
        "stock_code": "85123A",
        "quantity": -6,
        "unit_price_micros": 2_550_000,
        "currency": "GBP",
        "customer_id": "17850",
        "country": "EIRE",
        "invoice_ts": "2010-12-01T08:26:00.000Z",
        "attributes": {"till": "4"},
    }
    assert found.changed == {"invoice_no": ("536365", "C536365")}
    assert (found.item_id, found.attempt) == ("item-1", 1)


def test_a_posted_item_keeps_its_digits_and_mends_its_price() -> None:
    body = b'{"invoice_no": 7, "stock_code": "A", "quantity": 1, "unit_price": "2,55", "weight": 1.10}'
    (found,) = replayed(
        "text_unit_price LIKE '%,%'", {"unit_price": "replace(text_unit_price, ',', '.')"}, item(body, "json")
    )
    assert found.sale["unit_price"] == "2.55"
    assert (found.sale["invoice_no"], found.sale["weight"]) == ("7", "1.10")


def test_replace_takes_its_pattern_literally() -> None:
    body = b'{"unit_price": "1.234,50"}'
    mended = "replace(replace(text_unit_price, '.', ''), ',', '.')"
    (found,) = replayed("true", {"unit_price": mended}, item(body, "json"))
    assert found.sale["unit_price"] == "1234.50"


def test_a_line_of_a_file_takes_columns_line_and_defaults_from_its_context() -> None:
    (found,) = replayed(
        "true", {"quantity": "6"}, csv_item("536365,85123A,HEART,six,2010-12-01 08:26:00,2.55,4")
    )
    assert found.sale == {
        "invoice_no": "536365",
        "stock_code": "85123A",
        "description": "HEART",
        "quantity": 6,
        "invoice_ts": "2010-12-01 08:26:00",
        "unit_price": "2.55",
        "attributes": {"Till": "4"},
        "line_no": 3,
        "source_system": "shop",
        "currency": "GBP",
    }


def test_a_line_with_a_comma_too_many_is_mended_by_its_cells() -> None:
    (found,) = replayed(
        "cell_8 IS NOT NULL",
        {
            "invoice_no": "cell_1",
            "stock_code": "cell_2",
            "description": "concat(cell_3, ',', cell_4)",
            "quantity": "cell_5",
            "invoice_ts": "cell_6",
            "unit_price": "cell_7",
        },
        csv_item("536365,85123A,HEART, RED,6,2010-12-01 08:26:00,2.55,4"),
    )
    assert found.sale["description"] == "HEART, RED"
    assert (found.sale["quantity"], found.sale["line_no"]) == ("6", 3)


def test_bytes_that_cannot_be_read_keep_their_event_id_and_take_every_field() -> None:
    broken = item(b"\x01\xff", "avro", event_id="undecodable-1")
    (found,) = replayed("true", {"invoice_no": "'1'"}, broken)
    assert found.sale == {"event_id": "undecodable-1", "invoice_no": "1"}


def test_setting_one_form_of_the_price_removes_the_other() -> None:
    (found,) = replayed("true", {"unit_price": "'3.00'"}, avro_item())
    assert (found.sale["unit_price"], "unit_price_micros" in found.sale) == ("3.00", False)


def test_setting_null_leaves_the_field_out() -> None:
    (found,) = replayed("true", {"customer_id": "NULL"}, avro_item())
    assert "customer_id" not in found.sale


def test_only_items_that_the_condition_is_true_of_are_chosen() -> None:
    items = [avro_item(), item(b"nonsense", "json", item_id="item-2")]
    assert [m.item_id for m in replayed("quantity < 0", {}, *items)] == ["item-1"]
    assert [m.item_id for m in replayed("reason = 'UNDECODABLE'", {}, *items)] == ["item-2"]
    assert [m.item_id for m in replayed("country ~ '^E.RE$' OR text LIKE 'non%'", {}, *items)] == [
        "item-1",
        "item-2",
    ]


@pytest.mark.parametrize(
    ("where", "said"),
    [
        ("", "empty"),
        ("quantity", "gives Int64"),
        ("colour = 'red'", "no column colour"),
        ("read_csv('/etc/passwd') = 1", "read_csv is no function"),
        ("(SELECT 1) = 1", "no column SELECT"),
        ("quantity = 1; DROP TABLE x", "';' at character 13"),
        ("sum(quantity) > 1", "sum is no function"),
        ("quantity = 'x'", "cannot be read"),
        ("reason = 'a' -- b", "no column b"),
        ("(" * 200 + "true" + ")" * 200, "cannot be read"),
        ("x" * 3000, "at most 2000"),
        ("reason = replace(replace(replace(replace(text,'a','b'),'a','b'),'a','b'),'a','b')", "at most 3"),
    ],
)
def test_a_condition_that_cannot_be_is_refused_with_the_reason(where: str, said: str) -> None:
    with pytest.raises(BadInputError, match="where:") as refused:
        order(where, {})
    assert said in str(refused.value)


@pytest.mark.parametrize(
    ("assignments", "said"),
    [
        ({"colour": "'red'"}, "no field colour"),
        ({"quantity": "quantity <"}, "set quantity"),
        ({"quantity": "CAST(quantity AS DOUBLE)"}, "write a decimal as text"),
        ({"quantity": "quantity > 1"}, "gives Boolean"),
        ({"unit_price": "'1'", "unit_price_micros": "1"}, "one value"),
    ],
)
def test_an_assignment_that_cannot_be_is_refused_with_the_reason(
    assignments: dict[str, str], said: str
) -> None:
    with pytest.raises(BadInputError) as refused:
        order("true", assignments)
    assert said in str(refused.value)
