"""Change events are read as what they say, and what is none stops with a reason."""

from __future__ import annotations

import datetime as dt
from typing import Any

import pytest

from enrich_service.dimensions.envelope import Envelopes, NotAChange
from enrich_service.dimensions.members import CUSTOMER, PRODUCT
from schemas.fakes import InMemoryRegistry
from tests.unit.dimensions.debezium import encoded, envelope, event, nullable

COMMIT = 1_790_000_000_123_456
AT = dt.datetime(1970, 1, 1) + dt.timedelta(microseconds=COMMIT)
ROW = {"stock_code": "85123A", "description": "HEART", "list_price": "2.550000", "currency": "GBP"}


class Table:
    def __init__(self, schema: str | None = None) -> None:
        self.registry = InMemoryRegistry()
        self.lost: dict[str, int] = {}
        self.envelopes = Envelopes(PRODUCT, self.registry, self._unreadable)
        self.schema = schema or envelope("products")

    def _unreadable(self, column: str, count: int) -> None:
        self.lost[column] = self.lost.get(column, 0) + count

    def read(self, *events: dict[str, Any]) -> list[dict[str, Any]]:
        schema_id = self.registry.register("cdc.shop.products-value", self.schema)
        return self.envelopes.changes(encoded(self.schema, schema_id, *events)).to_dicts()


def test_creation_and_deletion_begin_at_their_commit() -> None:
    found = Table().read(event("c", 7, COMMIT, after=ROW), event("d", 8, COMMIT + 1, before=ROW))
    assert [(r["stock_code"], r["at"], r["lsn"], r["deleted"]) for r in found] == [
        ("85123A", AT, 7, False),
        ("85123A", AT + dt.timedelta(microseconds=1), 8, True),
    ]
    assert found[0]["list_price_micros"] == 2_550_000
    assert found[0]["description"] == "HEART"


@pytest.mark.parametrize(
    "text", ["2010-12-01T08:26:00Z", "2010-12-01T08:26:00.000000Z", "2010-12-01T10:26:00+02:00"]
)
def test_change_begins_at_the_valid_from_of_its_row(text: str) -> None:
    (change,) = Table().read(event("u", 7, COMMIT, ROW, ROW | {"valid_from": text}))
    assert change["at"] == dt.datetime(2010, 12, 1, 8, 26)


def test_deletion_ends_at_its_commit_whatever_the_row_was_valid_from() -> None:
    (change,) = Table().read(event("d", 7, COMMIT, before=ROW | {"valid_from": "2010-12-01T08:26:00Z"}))
    assert change["at"] == AT


def test_row_that_was_only_touched_is_no_change() -> None:
    touched = event("u", 7, COMMIT, ROW, ROW | {"version": 2})
    changed = event("u", 8, COMMIT, ROW, ROW | {"category": "Lighting"})
    assert [each["lsn"] for each in Table().read(touched, changed)] == [8]


def test_update_without_the_row_before_counts() -> None:
    assert len(Table().read(event("u", 7, COMMIT, None, ROW))) == 1


def test_snapshot_without_log_position_gives_way_to_what_was_streamed() -> None:
    assert [each["lsn"] for each in Table().read(event("r", None, COMMIT, after=ROW))] == [0]


def test_time_that_is_none_and_price_beyond_all_bounds_are_counted_and_missing() -> None:
    table = Table()
    found = table.read(
        event("c", 7, COMMIT, after=ROW | {"valid_from": "infinity", "list_price": "99999999999999.000000"})
    )
    assert (found[0]["at"], found[0]["list_price_micros"]) == (AT, None)
    assert table.lost == {"valid_from": 1, "list_price": 1}


def test_new_column_of_the_table_is_welcome() -> None:
    table = Table(envelope("products", nullable("colour", "string")))
    assert table.read(event("c", 7, COMMIT, after=ROW | {"colour": "red"}))[0]["description"] == "HEART"


def test_lost_column_stops_with_its_name() -> None:
    with pytest.raises(NotAChange, match="has no column supplier"):
        Table(envelope("products", without="supplier")).read(event("c", 7, COMMIT, after=ROW))


def test_deletion_without_its_row_and_truncation_stop() -> None:
    with pytest.raises(NotAChange, match="has no stock_code"):
        Table().read(event("d", 7, COMMIT))
    with pytest.raises(NotAChange, match=r"skipped\.operations"):
        Table().read(event("c", 6, COMMIT, after=ROW), event("t", 7, COMMIT))


def test_broken_record_is_named_by_its_place() -> None:
    table = Table()
    schema_id = table.registry.register("cdc.shop.products-value", table.schema)
    good = encoded(table.schema, schema_id, event("c", 7, COMMIT, after=ROW))
    for bad in (b"no event", (good[0] or b"")[:9]):
        with pytest.raises(NotAChange) as caught:
            table.envelopes.changes([*good, bad, *good])
        assert caught.value.position == 1


def test_tombstones_say_nothing() -> None:
    assert Envelopes(CUSTOMER, InMemoryRegistry()).changes([None, None]).is_empty()
