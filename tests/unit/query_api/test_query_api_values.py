"""Amounts, times, cursors and conditions: what they look like at the API."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta, timezone
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from query_api.cursors import BadCursorError, SaleCursor, decode, encode
from query_api.filters import Where, filter_key
from query_api.types import Range, SaleFilter
from query_api.values import (
    average,
    date_key,
    datetime_text,
    decimal_text,
    parse_date,
    parse_datetime,
    parse_decimal,
)

MOMENTS = st.datetimes(datetime(1, 1, 2), datetime(9999, 12, 30), timezones=st.just(UTC))
AMOUNTS = st.integers(-(10**30), 10**30).map(lambda micros: Decimal(micros).scaleb(-6))


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("0", "0.00"),
        ("-0", "0.00"),
        ("-0.000000", "0.00"),
        ("2.5", "2.50"),
        ("2.125000", "2.125"),
        ("0.000001", "0.000001"),
        ("1E+3", "1000.00"),
        ("1E-6", "0.000001"),
        ("-12.1", "-12.10"),
        ("1308957.280000", "1308957.28"),
    ],
)
def test_amount_is_plain_text_with_at_least_two_places(value: str, text: str) -> None:
    assert decimal_text(Decimal(value)) == text


@given(AMOUNTS)
def test_amount_text_is_exact(amount: Decimal) -> None:
    text = decimal_text(amount)
    assert parse_decimal(text) == amount
    assert text.partition(".")[2].rstrip("0") == "" or "E" not in text


def test_amount_beyond_six_places_is_an_error_not_a_rounding() -> None:
    with pytest.raises(ValueError, match="six"):
        decimal_text(Decimal("0.0000001"))


@pytest.mark.parametrize("value", ["", "x", "NaN", "Infinity", 1.5, True, None, []])
def test_what_is_no_decimal_is_refused(value: object) -> None:
    with pytest.raises(ValueError, match="decimal"):
        parse_decimal(value)


def test_average_rounds_half_to_even_at_six_places() -> None:
    assert average(Decimal("0.000001"), 2) == Decimal("0")
    assert average(Decimal("0.000003"), 2) == Decimal("0.000002")
    assert average(Decimal(10), 3) == Decimal("3.333333")
    assert average(Decimal("1" + "0" * 40), 3) == Decimal("3" * 40 + ".333333")
    assert average(Decimal(5), 0) is None


@given(MOMENTS)
def test_time_text_is_utc_and_exact(at: datetime) -> None:
    text = datetime_text(at)
    assert text.endswith("Z")
    assert parse_datetime(text) == at
    assert datetime_text(at.astimezone(timezone(timedelta(hours=5)))) == text


def test_naive_time_is_utc() -> None:
    assert parse_datetime("2010-12-01 08:26") == datetime(2010, 12, 1, 8, 26, tzinfo=UTC)


@pytest.mark.parametrize("value", ["", "yesterday", 5, None, "2010-13-01", "0001-01-01T00:00:00+10:00"])
def test_what_is_no_time_is_refused(value: object) -> None:
    with pytest.raises(ValueError, match="8601"):
        parse_datetime(value)


@pytest.mark.parametrize("value", ["", "2010-02-30", "2010-12-01T00:00:00", 20101201, None])
def test_what_is_no_date_is_refused(value: object) -> None:
    with pytest.raises(ValueError, match="YYYY-MM-DD"):
        parse_date(value)


@given(st.dates(), st.dates())
def test_date_key_orders_as_days_do(one: date, other: date) -> None:
    assert (date_key(one) < date_key(other)) == (one < other)
    assert str(date_key(one)).zfill(8) == one.strftime("%Y%m%d").zfill(8)


@given(MOMENTS, st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\x00"), max_size=80))
def test_cursor_comes_back_as_it_was(at: datetime, event_id: str) -> None:
    cursor = SaleCursor(at, event_id)
    assert decode(encode(cursor)) == cursor


@given(st.text(max_size=60) | st.binary(max_size=40).map(lambda raw: raw.hex()))
def test_any_text_is_a_cursor_or_refused(text: str) -> None:
    try:
        cursor = decode(text)
    except BadCursorError:
        return
    assert decode(encode(cursor)) == cursor


def test_cursor_of_another_version_or_length_is_refused() -> None:
    good = encode(SaleCursor(datetime(2010, 12, 1, tzinfo=UTC), "id"))
    for bad in ("Ag" + good[2:], good[:8], "A" * 2000, good + "é"):
        with pytest.raises(BadCursorError):
            decode(bad)


def test_conditions_hold_parameters_and_never_values() -> None:
    wanted = SaleFilter(
        range=Range(from_=date(2010, 12, 1), to=date(2011, 1, 1)),
        country="x'; DROP TABLE y; --",
        stock_code="a",
        customer_id="b",
        invoice_no="c",
        is_return=True,
    )
    where = Where().sales(wanted)
    assert str(where) == (
        "date_key >= $1 AND date_key < $2 AND country = $3 AND stock_code = $4 AND customer_id = $5"
        " AND invoice_no = $6 AND is_return = $7"
    )
    assert where.args == [20101201, 20110101, wanted.country, "a", "b", "c", True]
    assert str(Where().sales(SaleFilter())) == "true"
    assert filter_key(SaleFilter(country="a")) != filter_key(SaleFilter(stock_code="a"))
