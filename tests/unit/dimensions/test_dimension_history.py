"""Histories equal the plain model, whatever the order, the batches and the repetitions of what arrives."""

from __future__ import annotations

import datetime as dt

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from enrich_service.dimensions import history, revision
from schemas.identity import customer_key_expr
from tests.unit.dimensions.dimension_model import FIRST, Change, Sighting, histories
from tests.unit.dimensions.dimension_world import BASE, CHANGES, SIGHTINGS, Builder, as_model

News = list[Change | Sighting]
T = [BASE + dt.timedelta(days=n) for n in range(9)]
RETAIL, GOLD = ("RETAIL", "EIRE"), ("GOLD", "EIRE")


@st.composite
def arrivals(draw: st.DrawFn) -> tuple[News, list[News]]:
    """All news, and the batches in which they arrive: in any order, some of them twice."""
    news: News = [*draw(CHANGES), *draw(SIGHTINGS)]
    again = draw(st.lists(st.sampled_from(news), max_size=4)) if news else []
    shuffled = draw(st.permutations([*news, *again]))
    cuts = sorted(draw(st.lists(st.integers(0, len(shuffled)), max_size=5)))
    return news, [
        list(shuffled[a:b]) for a, b in zip([0, *cuts], [*cuts, len(shuffled)], strict=True) if a < b
    ]


def agrees(given_news: tuple[News, list[News]]) -> bool:
    """Whether versions, and what a reader of the topic has, are those of the model."""
    news, batches = given_news
    builder = Builder()
    for batch in batches:
        builder.feed(batch)
    expected = histories(
        [each for each in news if isinstance(each, Change)],
        [each for each in news if isinstance(each, Sighting)],
    )
    topic = pl.DataFrame(list(builder.topic.values()), schema=builder.versions.schema)
    return as_model(builder.versions) == expected == as_model(topic)


@settings(max_examples=100, deadline=None)
@given(arrivals())
def test_history_equals_the_model_whatever_the_order_of_arrival(given_news: tuple[News, list[News]]) -> None:
    assert agrees(given_news)


def sabotage(monkeypatch: pytest.MonkeyPatch, what: str) -> None:
    if what == "no collapse by log position":
        real = history._in_order
        monkeypatch.setattr(
            history,
            "_in_order",
            lambda changes, member: real(changes.with_columns(lsn=pl.lit(0, pl.Int64)), member),
        )
    elif what == "restatements forgotten":
        whole = history.changes_of
        monkeypatch.setattr(
            revision,
            "changes_of",
            lambda v, m: whole(v.with_columns(restated=pl.lit([], pl.List(pl.String))), m),
        )
    else:
        monkeypatch.setattr(revision, "_new_sightings", lambda versions, sightings, member: sightings)
        monkeypatch.setattr(
            revision, "_earliest", lambda sightings, member: sightings.unique(member.key, keep="last")
        )


CASES: dict[str, list[News]] = {
    "no collapse by log position": [[Change("a", T[1], 2, GOLD)], [Change("a", T[1], 1, RETAIL)]],
    "restatements forgotten": [
        [Change("a", T[1], 1, RETAIL), Change("a", T[3], 2, RETAIL)],
        [Change("a", T[2], 3, GOLD)],
    ],
    "the last sale wins": [[Sighting("a", T[1], "EIRE")], [Sighting("a", T[3], "France")]],
}


@pytest.mark.parametrize("what", CASES)
def test_model_catches_a_builder_that_forgets(monkeypatch: pytest.MonkeyPatch, what: str) -> None:
    news = [each for batch in CASES[what] for each in batch]
    assert agrees((news, CASES[what]))
    sabotage(monkeypatch, what)
    assert not agrees((news, CASES[what]))


def test_repeated_changes_publish_nothing() -> None:
    changes = [Change("a", T[1], 1, RETAIL), Change("a", T[2], 2, GOLD), Change("a", T[3], 3, None)]
    builder = Builder()
    builder.feed(changes)
    before, recorded = builder.published, builder.versions["recorded_at"].to_list()
    builder.feed(changes)
    builder.feed(changes[:1])
    assert builder.published == before == 2
    assert builder.versions["recorded_at"].to_list() == recorded


def test_update_closes_a_version_and_opens_the_next_at_the_microsecond() -> None:
    builder = Builder()
    builder.feed([Change("a", T[1], 1, RETAIL)])
    at = T[2] + dt.timedelta(microseconds=1)
    builder.feed([Change("a", at, 2, GOLD)])
    rows = builder.versions.sort("effective_date").to_dicts()
    assert [(r["effective_date"], r["expiry_date"], r["is_current"], r["segment"]) for r in rows] == [
        (FIRST, at, False, "RETAIL"),
        (at, None, True, "GOLD"),
    ]
    assert [r["country_code"] for r in rows] == ["IE", "IE"]


def test_sale_before_its_customer_keeps_its_key_when_the_customer_arrives() -> None:
    builder = Builder()
    builder.feed([Sighting("a", T[3], "EIRE")])
    assert builder.versions["is_inferred"].to_list() == [True]
    key = builder.versions["customer_key"].item()
    assert key == builder.versions.select(customer_key_expr()).item()
    builder.feed([Change("a", T[5], 1, RETAIL)])
    row = builder.versions.to_dicts()[0]
    assert len(builder.versions) == 1
    assert (row["customer_key"], row["is_inferred"], row["inferred_from"]) == (key, False, None)
    builder.feed([Sighting("a", T[0], "France")])
    assert builder.versions["country"].to_list() == ["EIRE"]


def test_change_that_comes_late_and_is_earliest_takes_the_first_place() -> None:
    builder = Builder()
    builder.feed([Change("a", T[5], 1, RETAIL)])
    builder.feed([Change("a", T[2], 2, GOLD)])
    rows = builder.versions.sort("effective_date").to_dicts()
    assert [(r["effective_date"], r["segment"], r["version_number"]) for r in rows] == [
        (FIRST, "GOLD", 1),
        (T[5], "RETAIL", 2),
    ]


def test_version_that_a_correction_makes_needless_is_withdrawn() -> None:
    builder = Builder()
    builder.feed([Change("a", T[1], 1, RETAIL), Change("a", T[3], 2, GOLD)])
    assert len(builder.topic) == 2
    builder.feed([Change("a", T[3], 3, RETAIL)])
    assert [row["segment"] for row in builder.topic.values()] == ["RETAIL"]
    assert builder.versions["expiry_date"].to_list() == [None]


def test_deleted_member_is_closed_and_one_that_comes_back_leaves_a_gap() -> None:
    builder = Builder()
    builder.feed([Change("a", T[1], 1, RETAIL), Change("a", T[3], 2, None)])
    assert builder.versions.select("expiry_date", "is_current", "is_deleted").row(0) == (T[3], False, True)
    builder.feed([Change("a", T[6], 3, RETAIL)])
    rows = builder.versions.sort("effective_date").to_dicts()
    assert [(r["effective_date"], r["expiry_date"], r["is_current"]) for r in rows] == [
        (FIRST, T[3], False),
        (T[6], None, True),
    ]


def test_deletion_of_an_unknown_member_is_remembered() -> None:
    builder = Builder()
    builder.feed([Change("a", T[3], 2, None)])
    assert builder.versions.select("is_inferred", "is_deleted", "expiry_date").row(0) == (True, True, T[3])
    builder.feed([Change("a", T[1], 1, RETAIL)])
    assert builder.versions.select("is_inferred", "is_deleted", "segment").row(0) == (False, True, "RETAIL")


def test_change_from_before_all_time_is_the_first_version() -> None:
    builder = Builder()
    builder.feed([Change("a", dt.datetime(1066, 10, 14), 1, RETAIL), Change("a", T[1], 2, GOLD)])
    assert builder.versions.sort("effective_date")["effective_date"].to_list() == [FIRST, T[1]]
