"""Exchange rates: integers against an oracle in `decimal`, and which rate a day has."""

from __future__ import annotations

import datetime as dt
from decimal import ROUND_HALF_EVEN, Decimal, localcontext

import polars as pl
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from enrich_service.fx import PICO, FxTable, multiply_half_even, parse_rate
from enrich_service.reference import load_rates

INT64 = 2**63


def converted(table: FxTable, currency: str, day: dt.date, micros: int = 1_000_000) -> int | None:
    at = dt.datetime.combine(day, dt.time(23, 59), dt.UTC)
    frame = pl.DataFrame(
        {"currency": [currency], "invoice_ts": [at], "total_amount_micros": [micros]},
        schema={
            "currency": pl.String,
            "invoice_ts": pl.Datetime("ms", "UTC"),
            "total_amount_micros": pl.Int64,
        },
    )
    result: int | None = table.add_to(frame)["amount_gbp_micros"][0]
    return result


@pytest.fixture(scope="module")
def small() -> FxTable:
    return FxTable(
        [
            (dt.date(2020, 1, 3), {"USD": "0.76", "DEM": "0.3"}),
            (dt.date(2020, 1, 10), {"USD": "0.77", "DEM": ""}),
        ]
    )


@given(
    amount=st.integers(-(10**18), 10**18),
    rate=st.integers(1, 3 * PICO),
)
@example(amount=1, rate=PICO // 2)  # 0.5 micros: to the even 0
@example(amount=3, rate=PICO // 2)  # 1.5: to the even 2
@example(amount=-1, rate=PICO // 2)
@example(amount=-3, rate=PICO // 2)
@example(amount=-(10**18), rate=3 * PICO)
def test_product_equals_decimal_rounded_half_even(amount: int, rate: int) -> None:
    with localcontext() as context:
        context.prec = 60
        exact = Decimal(amount) * Decimal(rate) / Decimal(PICO)
        expected = int(exact.quantize(Decimal(1), rounding=ROUND_HALF_EVEN))
    frame = pl.DataFrame({"a": [amount], "r": [rate]}, schema={"a": pl.Int64, "r": pl.Int64})
    assert frame.select(multiply_half_even(pl.col("a"), pl.col("r"))).item() == expected


def test_product_beyond_64_bits_is_null() -> None:
    frame = pl.DataFrame({"a": [INT64 - 1], "r": [3 * PICO]})
    assert frame.select(multiply_half_even(pl.col("a"), pl.col("r"))).item() is None


@given(st.decimals("0.000000000001", "999999", places=12))
def test_rate_is_read_without_loss(rate: Decimal) -> None:
    assert parse_rate(f"{rate:f}") == int(rate * PICO)


@pytest.mark.parametrize("text", ["0", "-1.5", "0.0000000000001"])
def test_rate_that_is_not_positive_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="positive"):
        parse_rate(text)


@pytest.mark.parametrize(
    ("day", "micros"),
    [
        (dt.date(2020, 1, 2), None),
        (dt.date(2020, 1, 3), 760_000),
        (dt.date(2020, 1, 9), 760_000),
        (dt.date(2020, 1, 10), 770_000),
        (dt.date(2031, 1, 1), 770_000),
    ],
)
def test_rate_is_the_latest_on_or_before_the_day(small: FxTable, day: dt.date, micros: int | None) -> None:
    assert converted(small, "USD", day) == micros


def test_currency_that_is_quoted_no_more_has_no_rate(small: FxTable) -> None:
    assert converted(small, "DEM", dt.date(2020, 1, 9)) == 300_000
    assert converted(small, "DEM", dt.date(2020, 1, 10)) is None


def test_unknown_currency_has_no_amount(small: FxTable) -> None:
    assert converted(small, "XAU", dt.date(2020, 1, 9)) is None


def test_pound_needs_no_rate(small: FxTable) -> None:
    assert converted(small, "GBP", dt.date(1900, 1, 1), -12_345_678) == -12_345_678


def test_table_without_rates_is_refused() -> None:
    with pytest.raises(ValueError, match="no exchange rates"):
        FxTable([])


def test_mixed_batch_keeps_its_order(small: FxTable) -> None:
    at = dt.datetime(2020, 1, 10, 12, tzinfo=dt.UTC)
    frame = pl.DataFrame(
        {
            "currency": ["USD", "GBP", "XAU", "USD", "GBP"],
            "invoice_ts": pl.Series([at] * 5, dtype=pl.Datetime("ms", "UTC")),
            "total_amount_micros": [100, 200, 300, -400, 500],
        }
    )
    assert small.add_to(frame)["amount_gbp_micros"].to_list() == [77, 200, None, -308, 500]


def test_shipped_rates_cover_every_year_since_2000() -> None:
    table = load_rates()
    assert converted(table, "EUR", dt.date(2000, 1, 1)) == 621_700
    for year in range(2000, 2027):
        assert converted(table, "USD", dt.date(year, 1, 1)) is not None
    assert table.newest >= dt.date(2026, 10, 30)


def test_shipped_rates_end_with_their_currency() -> None:
    table = load_rates()
    assert converted(table, "SKK", dt.date(2008, 12, 31)) is not None
    assert converted(table, "SKK", dt.date(2009, 2, 1)) is None
