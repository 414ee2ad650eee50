"""The tables: readable without a JVM, and each column with a way from the record."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from deltalake import DeltaTable

from gold_writer.lake import pipeline
from gold_writer.lake.tables import BRONZE, FACT, QUARANTINE, SILVER, TOPIC_ID_PROPERTY, Table, create
from schemas.catalogue import load_topics

TABLES = [FACT, SILVER, BRONZE, QUARANTINE]
INTERFACE = (
    "event_id source_system invoice_no line_no stock_code customer_id sale_key customer_key product_key "
    "date_key invoice_key quantity unit_price currency total_amount amount_gbp country country_code region "
    "is_return is_product quality_score invoice_ts recorded_at revision content_hash"
)


@pytest.mark.parametrize("table", TABLES, ids=lambda t: t.name)
def test_a_table_is_made_once_with_a_protocol_that_every_reader_knows(table: Table, tmp_path: Path) -> None:
    assert create(table, tmp_path, "topic")
    assert not create(table, tmp_path, "another")
    made = DeltaTable(str(table.path(tmp_path)))
    protocol = made.protocol()
    assert (protocol.min_reader_version, protocol.min_writer_version) == (1, 2)
    assert not protocol.reader_features
    assert made.metadata().configuration[TOPIC_ID_PROPERTY] == "topic"
    assert made.metadata().partition_columns == list(table.partition_by)
    assert [field.name for field in made.schema().fields] == table.schema.names


@pytest.mark.parametrize("table", TABLES, ids=lambda t: t.name)
def test_arrival_and_coordinates_have_statistics(table: Table) -> None:
    assert {table.arrival, "partition", "offset"} <= set(table.statistics) <= set(table.schema.names)


def test_the_fact_has_the_columns_that_others_rely_on() -> None:
    assert FACT.schema.names[:26] == INTERFACE.split()
    assert {str(FACT.schema.field(n).type) for n in ("unit_price", "total_amount", "amount_gbp")} == {
        "decimal128(20, 6)"
    }


def test_bronze_has_the_columns_that_others_rely_on() -> None:
    wanted = "key value headers topic_id partition offset kafka_ts ingestion_date source_system"
    assert BRONZE.schema.names == wanted.split()


@pytest.mark.parametrize(
    ("table", "topic", "special"),
    [
        (FACT, "sales.enriched.v1", pipeline._DERIVED),
        (SILVER, "sales.enriched.v1", pipeline._DERIVED),
        (QUARANTINE, "sales.quarantine.v1", pipeline._RENAMED),
    ],
)
def test_each_column_is_a_field_of_the_record_or_derived(
    table: Table, topic: str, special: dict[str, str]
) -> None:
    fields = {field["name"] for field in json.loads(load_topics()[topic].schema_text)["fields"]}
    known = fields | special.keys() | {"topic_id", "partition", "offset"}
    assert set(table.schema.names) <= known


def test_silver_and_quarantine_leave_no_field_behind() -> None:
    names = {field["name"] for field in json.loads(load_topics()["sales.enriched.v1"].schema_text)["fields"]}
    money = {"unit_price_micros", "total_amount_micros", "amount_gbp_micros"}
    assert names - money <= set(SILVER.schema.names)
    items = {
        field["name"] for field in json.loads(load_topics()["sales.quarantine.v1"].schema_text)["fields"]
    }
    assert items - {"amount_micros"} <= set(QUARANTINE.schema.names)


def test_starting_offsets_name_every_partition() -> None:
    assert pipeline.starting_offsets("t", None) == "earliest"
    assert json.loads(pipeline.starting_offsets("t", {1: 5, 0: 0})) == {"t": {"0": 0, "1": 5}}
