"""One value of one field: what is accepted exactly, and what a person is told otherwise."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingest_service import values
from ingest_service.values import INT32, INT64, Unreadable
from tests.unit.ingest_service.ingest_world import PROPERTY


@pytest.mark.parametrize(
    ("value", "micros"),
    [
        ("2.55", 2_550_000),
        (Decimal("2.55"), 2_550_000),
        (" 2.550000000 ", 2_550_000),
        ("-0.000001", -1),
        ("+1", 1_000_000),
        (".5", 500_000),
        ("1e-3", 1_000),
        ("9223372036854.775807", INT64[1]),
        ("0", 0),
    ],
)
def test_price_is_exact(value: Any, micros: int) -> None:
    assert values.price_micros(value) == micros


@pytest.mark.parametrize(
    ("value", "told"),
    [
        ("2.5500001", "more than six decimals"),
        (Decimal("0.30000000000000004"), "more than six decimals"),
        ("9223372036854.775808", "out of range"),
        ("1e99", "out of range"),
        ("2,55", "not a decimal number"),
        ("£2.55", "not a decimal number"),
        ("1,000.00", "thousands separators"),
        ("NaN", "not a decimal number"),
        ("", "not a decimal number"),
        (True, "neither a number nor text"),
        ([2.55], "an array is neither"),
    ],
)
def test_price_that_cannot_be_kept_says_why(value: Any, told: str) -> None:
    with pytest.raises(Unreadable, match=told) as caught:
        values.price_micros(value)
    assert str(caught.value).startswith("unit_price: ")


@PROPERTY
@given(st.decimals(allow_nan=False, allow_infinity=False, places=6, min_value=-(10**12), max_value=10**12))
def test_any_price_of_six_decimals_is_exact(price: Decimal) -> None:
    assert values.price_micros(str(price)) == int(price * 1_000_000)


@pytest.mark.parametrize(
    "text",
    [
        "2010-12-01 08:26:00",
        "2010-12-01T08:26:00Z",
        "2010-12-01T08:26:00.000Z",
        "2010-12-01T10:26:00+02:00",
        "2010-12-01T03:56:00-0430",
        "2010-12-01 08:26",
        "1291191960000",
        Decimal(1291191960000),
    ],
)
def test_every_form_of_one_instant_is_that_instant(text: Any) -> None:
    assert values.time_ms(text) == datetime(2010, 12, 1, 8, 26, tzinfo=UTC).timestamp() * 1000


def test_fraction_of_a_second_is_cut_to_milliseconds() -> None:
    assert values.time_ms("1970-01-01T00:00:00.9999999Z") == 999


@pytest.mark.parametrize(
    "text",
    ["12/1/2010 8:26", "2010-12-01", "2010-02-30 08:26:00", "0000-01-01 00:00:00", "now", "", "9" * 30],
)
def test_time_that_is_none_says_so(text: str) -> None:
    with pytest.raises(Unreadable, match=r"^invoice_ts: "):
        values.time_ms(text)


@pytest.mark.parametrize(
    ("value", "number"), [("6", 6), (Decimal(6), 6), ("6.0", 6), (" -12 ", -12), ("+3", 3)]
)
def test_whole_number_is_read(value: Any, number: int) -> None:
    assert values.whole("quantity", value) == number


@pytest.mark.parametrize(
    "value", ["6.5", "six", "", "1_000", "٣", str(INT32[1] + 1), str(INT32[0] - 1), False, {}, "9" * 500]
)
def test_what_is_no_whole_number_in_range_says_so(value: Any) -> None:
    with pytest.raises(Unreadable, match=r"^quantity: "):
        values.whole("quantity", value)


@pytest.mark.parametrize(
    ("number", "text"),
    [("17850.0", "17850"), ("1E+3", "1000"), ("0.10", "0.1"), ("-0.0", "0"), ("1e-7", "0.0000001")],
)
def test_number_in_a_text_field_becomes_plain_digits(number: str, text: str) -> None:
    assert values.text("customer_id", Decimal(number)) == text


@pytest.mark.parametrize("value", ["a\x00b", "\ud800", True, None, [], Decimal("1e1000000")])
def test_text_that_no_store_could_hold_says_so(value: Any) -> None:
    with pytest.raises(Unreadable, match=r"^description: "):
        values.text("description", value)


@PROPERTY
@given(st.text(min_size=1000, max_size=2000) | st.integers(min_value=10**100).map(Decimal))
def test_message_quotes_little_of_a_long_value(value: Any) -> None:
    assert len(values.shown(value)) <= 43
