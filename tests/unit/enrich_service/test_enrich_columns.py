"""Amount, keys, flags, date."""

from __future__ import annotations

import datetime as dt

import polars as pl
import pytest

from enrich_service.enrichment import add_amount, add_flags, add_keys, add_revision
from schemas.identity import key64


def one(**columns: object) -> pl.DataFrame:
    base = {
        "event_id": "e1",
        "source_system": "shop",
        "invoice_no": "536365",
        "stock_code": "85123A",
        "customer_id": "17850",
        "quantity": 6,
        "unit_price_micros": 2_550_000,
        "invoice_ts": dt.datetime(2010, 12, 1, 8, 26),
    }
    return pl.DataFrame(
        [base | columns],
        schema_overrides={
            "customer_id": pl.String,
            "quantity": pl.Int32,
            "invoice_ts": pl.Datetime("ms"),
        },
    )


def test_amount_is_exact_beyond_32_bits() -> None:
    assert add_amount(one(quantity=-80995, unit_price_micros=2_080_000))["total_amount_micros"][0] == (
        -80995 * 2_080_000
    )


def test_keys_are_those_of_the_first_version() -> None:
    row = add_keys(one()).row(0, named=True)
    assert row["sale_key"] == key64("sale", "e1")
    assert row["customer_key"] == key64("customer", "17850", "1900-01-01")
    assert row["product_key"] == key64("product", "85123A", "1900-01-01")
    assert row["invoice_key"] == key64("invoice", "shop", "536365")


def test_sale_without_customer_has_the_guests_key() -> None:
    assert add_keys(one(customer_id=None))["customer_key"].to_list() == [-1]


@pytest.mark.parametrize(
    ("at", "date_key"),
    [
        (dt.datetime(2010, 12, 1, 8, 26), 20101201),
        (dt.datetime(2011, 1, 31, 23, 59, 59, 999000), 20110131),
        (dt.datetime(2000, 2, 29), 20000229),
    ],
)
def test_date_key_is_the_day_in_utc(at: dt.datetime, date_key: int) -> None:
    frame = add_keys(one(invoice_ts=at))
    assert frame["date_key"].to_list() == [date_key]
    assert frame.schema["date_key"] == pl.Int32


@pytest.mark.parametrize(("invoice", "is_return"), [("C536379", True), ("536379", False), ("A563185", False)])
def test_return_is_an_invoice_that_begins_with_c(invoice: str, is_return: bool) -> None:
    assert add_flags(one(invoice_no=invoice))["is_return"][0] is is_return


@pytest.mark.parametrize(
    ("code", "is_product"),
    [("22423", True), ("85123A", True), ("15056BL", True), ("85123a", True)]
    + [(code, False) for code in ("POST", "M", "2242", "224231", "BANK CHARGES", "gift_0001_20", "22423\n")],
)
def test_product_is_five_digits_with_an_optional_suffix(code: str, is_product: bool) -> None:
    assert add_flags(one(stock_code=code))["is_product"][0] is is_product


def test_revision_is_zero_at_the_time_given() -> None:
    row = add_revision(one(), 1_700_000_000_123).row(0, named=True)
    assert row["revision"] == 0
    assert row["recorded_at"] == dt.datetime(2023, 11, 14, 22, 13, 20, 123_000)
