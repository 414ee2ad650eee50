"""The comparison of the fault tests goes red: for each store and for each kind of breach."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from tests.faults.laws import Held, Item, differences
from tests.faults.load import Sent

SENT = Sent(("a",), gold={"g1", "g2"}, refused={"r1"}, broken={b"b1", b"b2"})
ITEMS = [
    Item("i1", "OPEN", "r1", b"whatever r1 was"),
    Item("i2", "OPEN", "derived", b"b1"),
    Item("i3", "OPEN", None, b"b2"),
]


def whole() -> Held:
    return Held(["g1", "g2"], ["g2", "g1"], ["g1", "g2"], list(ITEMS), list(ITEMS))


def test_stores_that_hold_everything_once_agree() -> None:
    assert differences(SENT, whole()) == []


@pytest.mark.parametrize("store", ["warehouse", "lake", "silver"])
@pytest.mark.parametrize(
    ("breach", "word"),
    [
        (lambda ids: ids[1:], "missing"),
        (lambda ids: [*ids, ids[0]], "more than once"),
        (lambda ids: [*ids, "g3"], "unexpected"),
        # A count would not see this one.
        (lambda ids: [ids[0], ids[0]], "missing"),
    ],
)
def test_a_breach_in_gold_is_found(store: str, breach: Callable[[list[str]], list[str]], word: str) -> None:
    held = whole()
    setattr(held, store, breach(getattr(held, store)))
    found = differences(SENT, held)
    assert any(line.startswith(f"{store}:") and word in line for line in found), found


@pytest.mark.parametrize("store", ["quarantine", "lake_quarantine"])
@pytest.mark.parametrize(
    ("breach", "word"),
    [
        (lambda items: items[1:], "refused: 1 missing"),
        (lambda items: items[:1], "bytes: 2 missing"),
        (lambda items: [*items, items[0]], "refused: 1 more than once"),
        (lambda items: [*items, replace(items[1], item_id="i9")], "bytes: 1 more than once"),
        (lambda items: [items[0], replace(items[1], payload=b"b1 changed"), items[2]], "nobody sent broken"),
        (lambda items: [*items, Item("i9", "OPEN", "g1", b"a good sale")], "nobody sent broken"),
    ],
)
def test_a_breach_in_quarantine_is_found(
    store: str, breach: Callable[[list[Item]], list[Item]], word: str
) -> None:
    held = whole()
    setattr(held, store, breach(getattr(held, store)))
    found = differences(SENT, held)
    assert any(line.startswith(store.replace("_", " ")) and word in line for line in found), found


def test_a_record_that_is_twice_in_the_lakes_quarantine_is_found() -> None:
    held = whole()
    held.lake_places = ["0:1", "0:2", "0:1"]
    assert differences(SENT, held) == ["lake quarantine, records: 1 more than once, as ['0:1']"]
