"""The two ways in which the benchmarks say their stage, and the data it runs on."""

from __future__ import annotations

import json
from functools import cache
from typing import Any

import polars as pl
import pytest

from bench.harness.broker import digest
from bench.transform import by_column, by_record, dataset, reference
from quality_service.rules import Rules
from schemas.catalogue import load_topics
from schemas.codec import Codec
from schemas.contract import Contract, load_contract
from schemas.fakes import InMemoryRegistry


@cache
def document() -> dict[str, Any]:
    """As a peer reads it: through JSON."""
    read: dict[str, Any] = json.loads(json.dumps(reference.build()))
    return read


@cache
def values(records: int) -> list[bytes]:
    return [value for chunk in dataset.chunks(records) for value in chunk.values]


def by_columns(given: list[bytes], batch: int) -> list[tuple[bytes, bytes | None]]:
    stage = by_column.Stage(document(), dataset.raw_schema(), reference.OUT_SCHEMA.read_text())
    found: list[tuple[bytes, bytes | None]] = []
    for begin in range(0, len(given), batch):
        out = stage.process(given[begin : begin + batch])
        found += zip(out.keys.cast(pl.Binary).to_list(), out.values, strict=True)
    return found


@pytest.mark.parametrize("batch", [1, 700, 10_000])
def test_by_record_and_by_column_write_the_same_bytes_in_the_same_order(batch: int) -> None:
    given = values(5_000) if batch > 1 else values(5_000)[:60]
    process = by_record.stage(document())
    assert by_columns(given, batch) == [out for value in given if (out := process(value)) is not None]


def test_every_rejecting_rule_over_columns_applies_to_some_line_of_the_dataset() -> None:
    registry = InMemoryRegistry()
    registry.register("raw", dataset.raw_schema())
    frame = Codec(dataset.raw_schema(), registry).decode(values(5_000)).frame
    contract = load_contract()
    rules = Rules(Contract(contract.version, contract.reject, []))
    masks = rules.judge(frame, dataset.NOW_MS).reject
    applied = {rule for names in rules.rejections(masks)[1].to_list() for rule in names}
    assert applied == {rule.id for rule in contract.reject if rule.expression}
    assert len(applied) == len(dataset.BREAKS)


def test_dataset_is_the_same_each_time_and_holds_lines_that_come_twice() -> None:
    first, again = ([chunk.keys for chunk in dataset.chunks(5_000)] for _ in range(2))
    assert first == again
    keys = [key for part in first for key in part]
    assert 20 < len(keys) - len(set(keys)) < 60


def test_event_id_is_read_from_either_schema_without_decoding() -> None:
    registry = InMemoryRegistry()
    schema = load_topics()["sales.raw.v1"].schema_text
    registry.register("raw", schema)
    rows = Codec(schema, registry).decode(values(5_000)[:50]).frame
    assert [by_record.event_id_of(value) for value in values(5_000)[:50]] == rows["event_id"].to_list()


def test_digest_sees_a_missing_a_doubled_and_a_changed_record_and_not_the_order() -> None:
    records = [b"a1", b"b2", b"c3"]
    assert digest(records) == digest(records[::-1])
    for other in ([b"a1", b"b2"], [*records, b"c3"], [b"a1", b"b2", b"c4"], [b"a1b", b"2", b"c3"]):
        assert digest(other) != digest(records)


def test_unknown_stock_codes_are_part_of_the_reference() -> None:
    lines = dataset.real_lines()["stock_code"]
    known = reference.products_frame(document())["stock_code"]
    assert 0 < (~lines.is_in(known.implode())).sum() < lines.len() // 2
    assert isinstance(reference.countries_frame(document()), pl.DataFrame)
