"""Entity tags, cursors and merge patches: pure parts of REST v1."""

from __future__ import annotations

import base64
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from query_api.errors import (
    ApiError,
    BadInputError,
    InvalidBodyError,
    PreconditionFailedError,
    PreconditionRequiredError,
)
from query_api.shop import paging
from query_api.shop.bodies import merge, parsed, validated
from query_api.shop.conditions import Tags, etag, not_modified, require_match
from query_api.shop.models import PriceNew, ProductFields
from query_api.shop.resources import CUSTOMERS, PRICE_LIST, PRODUCTS, RESOURCES, parse_filters
from query_api.shop.service import location

ROW: dict[str, Any] = {"version": 3, "updated_at": datetime(2026, 11, 22, 9, 30, 0, 123456, tzinfo=UTC)}
TAG = etag(ROW)


def refused(header: str | None) -> type[ApiError] | None:
    try:
        require_match(Tags.parse("If-Match", header), ROW)
    except ApiError as error:
        return type(error)
    return None


@pytest.mark.parametrize("header", ["*", TAG, f'"x", {TAG}', f'{TAG} ,"y"'])
def test_matching_version_may_be_changed(header: str) -> None:
    assert refused(header) is None


@pytest.mark.parametrize("header", [f"W/{TAG}", '"x"', f'"{TAG[1:-1]}0"'])
def test_another_version_may_not_and_a_weak_tag_never_matches(header: str) -> None:
    assert refused(header) is PreconditionFailedError


@pytest.mark.parametrize("header", ["", "x", '"x', "* , *", f"{TAG} {TAG}", "W/*"])
def test_what_is_no_tag_is_a_bad_request(header: str) -> None:
    assert refused(header) is BadInputError


def test_change_without_a_version_must_be_conditional() -> None:
    assert refused(None) is PreconditionRequiredError


def test_tag_differs_with_version_and_with_the_microsecond_of_the_change() -> None:
    later = {**ROW, "updated_at": ROW["updated_at"] + timedelta(microseconds=1)}
    assert len({TAG, etag(later), etag({**ROW, "version": 4})}) == 3


def test_weak_and_strong_tags_both_spare_a_download() -> None:
    for header in (TAG, f"W/{TAG}", "*"):
        assert not_modified(Tags.parse("If-None-Match", header), ROW)
    assert not not_modified(Tags.parse("If-None-Match", '"x"'), ROW)
    assert not not_modified(None, ROW)


times = st.datetimes(datetime(1900, 1, 2), datetime(2199, 12, 30), timezones=st.just(UTC))
names = st.text(
    st.characters(categories=["L", "N", "P", "S"], exclude_characters="/"), min_size=1, max_size=64
)


@given(names, times)
def test_cursor_comes_back_as_the_key(code: str, at: datetime) -> None:
    key = (code, "GBP", at)
    assert paging.decode(PRICE_LIST, paging.encode(PRICE_LIST, key)) == key


@pytest.mark.parametrize("text", ["", "!", "AAAA", "x" * 5000, base64.b64encode(b"[[[[").decode()])
def test_what_is_no_cursor_is_refused(text: str) -> None:
    with pytest.raises(BadInputError, match="not a cursor"):
        paging.decode(PRODUCTS, text)


def test_cursor_of_another_resource_is_refused() -> None:
    with pytest.raises(BadInputError, match="not a cursor of products"):
        paging.decode(PRODUCTS, paging.encode(CUSTOMERS, ("1",)))


def test_merge_patch_replaces_keeps_and_empties() -> None:
    old = {"a": 1, "b": 2, "c": None}
    assert merge(old, {"b": None, "c": 3}) == {"a": 1, "c": 3}
    assert old == {"a": 1, "b": 2, "c": None}


def test_number_of_a_body_is_exact() -> None:
    body = parsed(b'{"list_price": 0.100000, "currency": "GBP"}')
    assert validated(ProductFields, body).list_price == Decimal("0.1")
    assert validated(
        ProductFields, {**body, "list_price": Decimal("12345678901234.123456")}
    ).list_price == Decimal("12345678901234.123456")


def test_time_without_a_zone_is_utc_and_another_zone_is_brought_there() -> None:
    price = {"stock_code": "1", "currency": "GBP", "price": "1"}
    naive = validated(PriceNew, {**price, "valid_from": "2011-01-01"})
    zoned = validated(PriceNew, {**price, "valid_from": "2011-01-01T02:00:00+02:00"})
    assert naive.valid_from == zoned.valid_from == datetime(2011, 1, 1, tzinfo=UTC)
    with pytest.raises(InvalidBodyError, match="valid_to must be after valid_from"):
        validated(PriceNew, {**price, "valid_from": "2011-01-01", "valid_to": "2011-01-01"})


def test_path_of_an_item_is_quoted() -> None:
    assert location(PRODUCTS, ("A B?",)) == "/api/v1/products/A%20B%3F"
    assert location(PRICE_LIST, ("1", "GBP", datetime(2011, 1, 1, tzinfo=UTC))).endswith(
        "/2011-01-01T00:00:00Z"
    )


@pytest.mark.parametrize("resource", RESOURCES, ids=lambda resource: resource.name)
def test_every_filter_is_told_where_an_unknown_one_is_refused(resource: Any) -> None:
    with pytest.raises(BadInputError) as failure:
        parse_filters(resource, {"no_such": "x"})
    assert all(name in str(failure.value) for name in ("first", "after", *resource.filters))
