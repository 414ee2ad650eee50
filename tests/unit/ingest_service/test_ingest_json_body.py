"""Cutting a body into items: every item with its own bytes, a broken frame with its position."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingest_service import json_body
from ingest_service.careful import NotJson
from ingest_service.json_body import TooManyItems
from tests.unit.ingest_service.ingest_world import PROPERTY

LIMIT = 1000
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=6,
)


@PROPERTY
@given(st.lists(JSON, max_size=20), st.sampled_from([None, 1, 3]), st.booleans())
def test_items_of_an_array_are_what_a_json_reader_finds(
    array: list[Any], indent: int | None, ascii_only: bool
) -> None:
    body = json.dumps(array, indent=indent, ensure_ascii=ascii_only).encode()
    items = json_body.document(body, LIMIT)
    assert [json.loads(item) for item in items] == array
    for index, item in enumerate(items):
        start = json_body.start_of(body, items, index)
        assert body[start : start + len(item)] == item


@PROPERTY
@given(st.lists(st.text(alphabet='\\"{}[], a', max_size=8), max_size=30), st.integers(1, 16))
def test_quotes_and_brackets_across_block_borders_are_text(texts: list[str], block: int) -> None:
    body = json.dumps(texts).encode()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(json_body, "_BLOCK", block)
        assert [json.loads(item) for item in json_body.document(body, LIMIT)] == texts


@PROPERTY
@given(st.binary(max_size=200))
def test_any_bytes_are_cut_or_refused(body: bytes) -> None:
    try:
        found = json_body.document(b"[" + body, LIMIT).to_list()
    except NotJson as error:
        found = [body[: max(0, error.position - 1)]]
    assert all(item in body for item in found)


@pytest.mark.parametrize(
    ("body", "told", "position"),
    [
        (b'[{"a":1},', "not closed", 9),
        (b"[1}", "wrong bracket", 2),
        (b"[1] x", "more after the end", 3),
        (b"[1]]", "more after the end", 3),
        (b" 5", "object or array", 1),
        (b"[" * 100, "nested deeper", 64),
        (b'["a', "not closed", 3),
    ],
)
def test_broken_array_says_what_and_where(body: bytes, told: str, position: int) -> None:
    with pytest.raises(NotJson, match=told) as caught:
        json_body.document(body, LIMIT)
    assert caught.value.position == position


def test_object_is_one_item_and_empty_array_none() -> None:
    assert json_body.document(b' {"a":1} ', LIMIT).to_list() == [b' {"a":1} ']
    assert json_body.document(b" [ ] ", LIMIT).to_list() == []


def test_lines_are_items_and_blank_lines_are_not() -> None:
    items = json_body.lines(b'{"a":1}\n\n \t\r\n{"a":2}\r\n  {"a":3}', LIMIT)
    assert [item.strip() for item in items] == [b'{"a":1}', b'{"a":2}', b'{"a":3}']


@pytest.mark.parametrize("body", [b"1\n" * 6, b"\n" * 20])
def test_too_many_lines_are_refused(body: bytes) -> None:
    with pytest.raises(TooManyItems):
        json_body.lines(body, 5)


def test_too_many_items_of_an_array_are_refused() -> None:
    assert len(json_body.document(b"[1,2,3]", 3)) == 3
    with pytest.raises(TooManyItems):
        json_body.document(b"[1,2,3,4]", 3)
