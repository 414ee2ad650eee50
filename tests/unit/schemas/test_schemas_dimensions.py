"""Keys of dimension records: one definition, over columns and one by one."""

import datetime as dt

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.catalogue import load_topics
from schemas.dimensions import (
    CUSTOMERS,
    PRODUCTS,
    Dimension,
    parse_record_key,
    record_key_expr,
    surrogate_key,
    surrogate_key_expr,
)
from schemas.example_files import examples
from schemas.identity import customer_key_expr, product_key_expr

FIRST = dt.datetime(1900, 1, 1)
TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\x1f"), min_size=1, max_size=20)


def frame(dimension: Dimension, natural: str | None, effective: dt.datetime) -> pl.DataFrame:
    return pl.DataFrame(
        {dimension.natural_key: [natural], "effective_date": [effective]},
        schema={dimension.natural_key: pl.String(), "effective_date": pl.Datetime("us")},
    )


@given(natural=TEXT, effective=st.datetimes(FIRST, dt.datetime(2100, 1, 1)))
def test_the_surrogate_key_of_a_record_key_is_the_one_in_the_record(
    natural: str, effective: dt.datetime
) -> None:
    row = frame(CUSTOMERS, natural, effective)
    key = str(row.select(record_key_expr(CUSTOMERS)).item())
    assert surrogate_key(CUSTOMERS, key.encode()) == row.select(surrogate_key_expr(CUSTOMERS)).item()
    assert parse_record_key(key.encode())[0] == natural


def test_first_version_has_the_key_that_a_sale_gets_without_any_dimension() -> None:
    """So that an inferred member is filled in and re-keys no fact."""
    customer, product = frame(CUSTOMERS, "17850", FIRST), frame(PRODUCTS, "85123A", FIRST)
    assert (
        customer.select(surrogate_key_expr(CUSTOMERS)).item() == customer.select(customer_key_expr()).item()
    )
    assert product.select(surrogate_key_expr(PRODUCTS)).item() == product.select(product_key_expr()).item()


def test_keys_of_versions_a_microsecond_apart_differ() -> None:
    at = dt.datetime(2011, 3, 1, 10, 0, 0, 5)
    rows = [frame(PRODUCTS, "85123A", each) for each in (at, at + dt.timedelta(microseconds=1))]
    assert len({row.select(surrogate_key_expr(PRODUCTS)).item() for row in rows}) == 2
    assert rows[0].select(record_key_expr(PRODUCTS)).item() == "85123A|2011-03-01T10:00:00.000005Z"


def test_the_special_member_has_its_own_key() -> None:
    row = frame(CUSTOMERS, None, FIRST)
    assert row.select(record_key_expr(CUSTOMERS)).item() == "|1900-01-01"
    assert surrogate_key(CUSTOMERS, b"|1900-01-01") == row.select(surrogate_key_expr(CUSTOMERS)).item() == -1


@pytest.mark.parametrize("key", [b"", b"17850", b"17850|"])
def test_a_key_of_something_else_is_refused(key: bytes) -> None:
    with pytest.raises(ValueError, match="no key of a dimension record"):
        parse_record_key(key)


@pytest.mark.parametrize("dimension", [CUSTOMERS, PRODUCTS], ids=lambda each: each.topic)
def test_examples_carry_the_keys_that_the_platform_derives(dimension: Dimension) -> None:
    rows = examples(load_topics()[dimension.topic])
    derived = rows.select(surrogate_key_expr(dimension).alias("key"))["key"]
    assert derived.equals(rows[dimension.surrogate_key].alias("key"))
