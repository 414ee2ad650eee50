"""JSON items to sales: the columnar path and the careful one decide alike, and each item stands alone."""

from __future__ import annotations

import json
from datetime import datetime
from typing import Any

import polars as pl
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from ingest_service import careful, json_body, json_sales
from ingest_service.json_sales import ItemNotJson
from ingest_service.model import Defaults, Parsed
from tests.unit.ingest_service.ingest_world import PROPERTY, SALE

NO_DEFAULTS = Defaults()

# JSON text and not values, because how a number is written is what the two paths could differ in.
NUMBERS = (
    st.sampled_from(
        ("6", "-1", "0", "-0", "-0.0", "6.0", "6.50", "2.55", "0.000001", "123456789.123456", "1234567890.5")
    )
    | st.sampled_from(
        ("1e3", "1E-3", "1e400", "007", "2147483647", "2147483648", "999999999999999", "9007199254740993")
    )
    | st.sampled_from(("2.5500000000000000001", "1291191960000", "123456789012345678901234567890"))
)
TIMES = (
    st.sampled_from(
        ("2010-12-01 08:26:00", "2010-12-01T08:26:00.5Z", "2010-12-01 08:26:00+01:30", "2010-12-01 08:26")
    )
    | st.sampled_from(
        ("2010-02-30 08:26:00", "2010-12-01 24:00:00", "2010-12-01 08:26:60", "9999-12-31 23:59:59-01:00")
    )
    | st.just("0000-01-01 00:00:00")
)
ODDITIES = st.sampled_from(
    [
        "",
        " ",
        "6",
        " 6 ",
        "+6",
        "2.55",
        "2.5500000",
        ".5",
        "a:null,",
        '":',
        '"invoice_no": 1',
        "\x00",
        "\u2003x",
    ]
)
TEXTS = st.text(max_size=12) | ODDITIES | TIMES
OTHERS = st.sampled_from(["null", "true", "{}", '{"a": 1}', "[1]", "NaN", "bad", '"\\ud800"', '"\\u0000"'])
VALUES = NUMBERS | TEXTS.map(json.dumps) | TEXTS.map(lambda t: json.dumps(t, ensure_ascii=False)) | OTHERS
NAMES = st.sampled_from([*SALE, "event_id", "unit_price_micros", "attributes", "channel", "till no"])


@st.composite
def items(draw: st.DrawFn) -> bytes:
    """A sale as JSON text in which a few members are replaced, removed, added or given twice."""
    members = [(json.dumps(name), json.dumps(value)) for name, value in SALE.items()]
    for _ in range(draw(st.integers(0, 3))):
        name = json.dumps(draw(NAMES))
        if draw(st.booleans()):
            members = [m for m in members if m[0] != name]
        if draw(st.booleans()):
            members.append((name, draw(VALUES)))
    space = draw(st.sampled_from(["", " ", "\n", "\t"]))
    text = ("," + space).join(f"{name}:{space}{value}" for name, value in members)
    return ("{" + space + text + "}").encode(errors="surrogatepass")


def parse(payload: list[bytes], *, columnar: bool, defaults: Defaults = NO_DEFAULTS) -> Parsed:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(json_sales, "_FEW", 0 if columnar else len(payload) + 1)
        return json_sales.parse(pl.Series(payload, dtype=pl.Binary), defaults, whole_body=False)


def rows(parsed: Parsed) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    return parsed.sales.to_dicts(), parsed.refused.to_dicts()


@PROPERTY
@given(st.lists(items(), min_size=1, max_size=6))
@example([json.dumps({**SALE, "channel": "a:null", "till": 7, "rate": 1.10}).encode()])
@example([b'{"quantity":6,' + json.dumps({**SALE, "quantity": 7})[1:].encode()])
@example([b'{"country":"a:null,",' + json.dumps(SALE)[1:].encode()])
@example([b'{"quantity":null,' + json.dumps({**SALE, "quantity": 7})[1:].encode()])
def test_columnar_and_careful_parser_decide_alike(payload: list[bytes]) -> None:
    assert rows(parse(payload, columnar=True)) == rows(parse(payload, columnar=False))


def test_plain_items_are_read_as_columns_and_not_one_by_one(monkeypatch: pytest.MonkeyPatch) -> None:
    def never(*_: object) -> None:
        raise AssertionError("read one by one")

    monkeypatch.setattr(careful, "json_item", never)
    payload = [
        json.dumps({**SALE, "line_no": n, "quantity": n, "unit_price": 2.55, "channel": "web"}).encode()
        for n in range(1, 101)
    ]
    parsed = parse(payload, columnar=True)
    assert parsed.sales["line_no"].to_list() == list(range(1, 101))
    assert parsed.sales["unit_price_micros"].unique().to_list() == [2_550_000]
    assert parsed.sales["attributes"].to_list() == [{"channel": "web"}] * 100


@pytest.mark.parametrize("columnar", [True, False])
def test_number_2_55_is_exactly_2_550_000_micros_among_mixed_types(columnar: bool) -> None:
    prices = [2.55, "2.55", "2.550000", " 2.55 "]
    payload = [
        json.dumps({**SALE, "unit_price": p, "quantity": q}).encode() for p in prices for q in (6, "6")
    ]
    parsed = parse(payload, columnar=columnar)
    assert parsed.sales["unit_price_micros"].to_list() == [2_550_000] * 8
    assert parsed.sales["quantity"].to_list() == [6] * 8


@pytest.mark.parametrize("columnar", [True, False])
def test_every_field_arrives_as_its_column(columnar: bool) -> None:
    sale = {**SALE, "event_id": " abc ", "attributes": {"till": 7, "open": True, "x": None}, "note": "é \n"}
    (row,) = parse([json.dumps(sale).encode()], columnar=columnar).sales.to_dicts()
    assert row == {
        "ordinal": 1,
        "event_id": "abc",
        "source_system": "web",
        "invoice_no": "536365",
        "line_no": 1,
        "stock_code": "85123A",
        "description": "WHITE HANGING HEART T-LIGHT HOLDER",
        "quantity": 6,
        "unit_price_micros": 2_550_000,
        "currency": "GBP",
        "customer_id": "17850.0",
        "country": "United Kingdom",
        "invoice_ts": datetime(2010, 12, 1, 8, 26),
        "attributes": {"note": "é \n", "till": "7", "open": "true"},
    }


BAD: dict[str, tuple[bytes, str]] = {
    "not json": (b'{"invoice_no": oops}', "not JSON"),
    "not utf-8": (b'{"invoice_no": "\xff"}', "not UTF-8"),
    "not an object": (b"[1]", "not an object"),
    "no id and no line": (json.dumps({**SALE, "line_no": None}).encode(), "line_no: missing"),
    "line zero": (json.dumps({**SALE, "line_no": 0}).encode(), "line_no: 0 is out of range"),
    "no stock code": (json.dumps({**SALE, "stock_code": None}).encode(), "stock_code: missing"),
    "seven decimals": (json.dumps({**SALE, "unit_price": "2.5500001"}).encode(), "six decimals"),
    "two prices": (json.dumps({**SALE, "unit_price_micros": 1}).encode(), "differ"),
    "quantity too large": (json.dumps({**SALE, "quantity": 2**31}).encode(), "quantity: 2147483648"),
    "quantity a boolean": (json.dumps({**SALE, "quantity": True}).encode(), "quantity: true"),
    "time": (json.dumps({**SALE, "invoice_ts": "1/12/2010"}).encode(), "invoice_ts: "),
    "long id": (json.dumps({**SALE, "event_id": "x" * 201}).encode(), "longer than 200"),
    "zero byte": (json.dumps({**SALE, "country": "a\x00"}).encode(), "U+0000"),
    "nested": (json.dumps({**SALE, "country": {"code": "GB"}}).encode(), "country: an object"),
    "field twice": (b'{"quantity":1,' + json.dumps(SALE)[1:].encode(), '"quantity" is given twice'),
    "not a number": (json.dumps({**SALE, "quantity": float("nan")}).encode(), "NaN"),
    "deep": (b'{"a":' * 5000, "nested too deeply"),
}


@pytest.mark.parametrize(("payload", "told"), BAD.values(), ids=BAD.keys())
@pytest.mark.parametrize("columnar", [True, False])
def test_bad_item_is_refused_with_its_bytes_and_its_neighbours_accepted(
    payload: bytes, told: str, columnar: bool
) -> None:
    good = json.dumps(SALE).encode()
    parsed = parse([good, payload, good], columnar=columnar)
    assert parsed.sales["ordinal"].to_list() == [1, 3]
    (refused,) = parsed.refused.to_dicts()
    assert refused["ordinal"] == 2
    assert refused["payload"] == payload
    assert told in refused["detail"]


def test_refused_item_keeps_amount_and_currency_that_could_be_read() -> None:
    parsed = parse([json.dumps({**SALE, "invoice_ts": None, "event_id": "e1"}).encode()], columnar=False)
    (refused,) = parsed.refused.to_dicts()
    assert refused["amount_micros"] == 15_300_000
    assert (refused["currency"], refused["source_system"], refused["event_id"]) == ("GBP", "web", "e1")


@pytest.mark.parametrize("columnar", [True, False])
def test_defaults_fill_in_source_and_currency(columnar: bool) -> None:
    bare = {name: value for name, value in SALE.items() if name not in ("source_system", "currency")}
    payload = [
        json.dumps(bare).encode(),
        json.dumps({**bare, "source_system": " shop ", "currency": "EUR"}).encode(),
    ]
    parsed = parse(payload, columnar=columnar, defaults=Defaults("feed", "GBP"))
    assert parsed.sales.select("source_system", "currency").rows() == [("feed", "GBP"), ("shop", "EUR")]


@pytest.mark.parametrize("columnar", [True, False])
def test_webhook_refuses_an_item_of_another_source(columnar: bool) -> None:
    payload = [json.dumps({**SALE, "source_system": source}).encode() for source in ("till", "web", None)]
    parsed = parse(payload, columnar=columnar, defaults=Defaults("till", fixed_source=True))
    assert parsed.sales["ordinal"].to_list() == [1, 3]
    assert "not this webhook's source" in parsed.refused["detail"][0]


def test_item_that_is_no_json_fails_the_whole_document() -> None:
    good = json.dumps(SALE).encode()
    body = b"[" + b",".join([good] * 40 + [b'{"a" 1}'] + [good]) + b"]"
    payload = json_body.document(body, 100)
    with pytest.raises(ItemNotJson) as caught:
        json_sales.parse(payload, NO_DEFAULTS, whole_body=True)
    assert (caught.value.index, caught.value.position) == (40, 5)


def test_parts_of_a_large_body_keep_their_ordinals(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(json_sales, "_PART_ROWS", 7)
    good, bad = json.dumps(SALE).encode(), b"nonsense"
    payload = [bad if n % 10 == 0 else good for n in range(1, 51)]
    parsed = parse(payload, columnar=True)
    assert parsed.refused["ordinal"].to_list() == [10, 20, 30, 40, 50]
    assert parsed.sales["ordinal"].to_list() == [n for n in range(1, 51) if n % 10]
