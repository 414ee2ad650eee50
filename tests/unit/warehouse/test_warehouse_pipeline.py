"""From polled records to one write."""

from __future__ import annotations

import csv
import io
from typing import Any

import pytest

from gold_writer.warehouse.batch import Move, Position, Positions, Rows, Write
from gold_writer.warehouse.columns import FACT, QUARANTINE
from gold_writer.warehouse.pipeline import ENRICHED, QUARANTINED, CorruptInput
from schemas.registry import RegistryUnavailable
from streamkit.ports import TopicPartition
from tests.unit.warehouse.warehouse_records import Records, batch_of

SALES_0 = TopicPartition(ENRICHED, 0)
ITEMS_0 = TopicPartition(QUARANTINED, 0)


@pytest.fixture(scope="module")
def records() -> Records:
    return Records()


def positions(sales: int = 0, items: int = 0) -> Positions:
    return Positions({SALES_0: Position("S", sales), ITEMS_0: Position("Q", items)})


def rows(staged: Rows | None) -> list[dict[str, Any]]:
    assert staged is not None
    names = [c.name for c in FACT if len(FACT) == _width(staged)] or [c.name for c in QUARANTINE]
    return [dict(zip(names, line, strict=True)) for line in csv.reader(io.StringIO(staged.csv.decode()))]


def _width(staged: Rows) -> int:
    return len(next(csv.reader(io.StringIO(staged.csv.decode()))))


def test_sales_and_quarantine_are_one_write(records: Records) -> None:
    batches = [records.sales({}, {"event_id": "e2"}, offset=7), records.quarantine({}, offset=3)]
    write = records.pipeline().prepare(batches, positions(sales=7, items=2))
    assert write.moves == [Move(SALES_0, "S", 7, 9), Move(ITEMS_0, "Q", 2, 4)] or write.moves == [
        Move(ITEMS_0, "Q", 2, 4),
        Move(SALES_0, "S", 7, 9),
    ]
    assert [row["event_id"] for row in rows(write.sales)] == ["e1", "e2"]
    assert [row["item_id"] for row in rows(write.quarantine)] == ["i1"]


def test_rows_carry_the_coordinates_they_were_read_from(records: Records) -> None:
    batches = [records.sales({}, offset=41), records.quarantine({}, offset=17)]
    write = records.pipeline().prepare(batches, positions())
    assert [(r["enriched_partition"], r["enriched_offset"]) for r in rows(write.sales)] == [("0", "41")]
    (item,) = rows(write.quarantine)
    assert (item["quarantine_offset"], item["raw_topic_id"], item["raw_offset"]) == ("17", "T", "5")


def test_records_that_are_stored_already_are_left_out(records: Records) -> None:
    batch = records.sales({"event_id": "e1"}, {"event_id": "e2"}, {"event_id": "e3"}, offset=10)
    write = records.pipeline().prepare([batch], positions(sales=12))
    assert [row["event_id"] for row in rows(write.sales)] == ["e3"]
    assert write.moves == [Move(SALES_0, "S", 12, 13)]


def test_batch_that_is_stored_whole_is_no_write(records: Records) -> None:
    assert records.pipeline().prepare([records.sales({}, offset=10)], positions(sales=11)) == Write(moves=[])


def test_highest_revision_of_an_event_is_kept(records: Records) -> None:
    batch = records.sales(
        {"revision": 1, "description": "one"}, {"revision": 2, "description": "two"}, {"revision": 0}
    )
    write = records.pipeline().prepare([batch], positions())
    assert [(row["revision"], row["description"]) for row in rows(write.sales)] == [("2", "two")]
    assert write.moves == [Move(SALES_0, "S", 0, 3)]


def test_of_equal_revisions_the_first_is_kept(records: Records) -> None:
    batch = records.sales({"description": "first"}, {"description": "second"})
    write = records.pipeline().prepare([batch], positions())
    assert [row["description"] for row in rows(write.sales)] == ["first"]


def test_undecodable_record_stops_the_stage_and_is_named(records: Records) -> None:
    good = records.sales({}).value[0]
    with pytest.raises(CorruptInput, match=r"sales\.enriched\.v1\[0\]@6 cannot be decoded"):
        records.pipeline().prepare([batch_of(ENRICHED, [good, b"junk"], offset=5)], positions())


def test_registry_outage_is_not_a_bad_record(records: Records) -> None:
    batch, pipeline = records.sales({}), records.pipeline()
    records.registry.available = False
    try:
        with pytest.raises(RegistryUnavailable):
            pipeline.prepare([batch], positions())
    finally:
        records.registry.available = True


def test_partition_without_a_known_position_is_refused(records: Records) -> None:
    with pytest.raises(KeyError):
        records.pipeline().prepare([records.sales({}, partition=2)], positions())


def test_topic_without_a_table_is_refused(records: Records) -> None:
    with pytest.raises(ValueError, match="no table for other"):
        records.pipeline().prepare([batch_of("other", [b"x"])], positions())
