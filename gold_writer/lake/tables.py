"""The lake's tables as data: columns, partitions, properties.

Everything here reads without a JVM (`deltalake`, Polars): no column mapping, no deletion vectors, no type
widening, so that protocol versions stay at reader 1, writer 2. `topic_id`, `partition` and `offset` are
always those of the Kafka record that a row was made from.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final

import pyarrow as pa
from deltalake import DeltaTable, Schema

TOPIC_ID_PROPERTY: Final = "tillstream.topic_id"

MONEY: Final = pa.decimal128(20, 6)
INSTANT: Final = pa.timestamp("us", tz="UTC")

_RECORD: Final = [
    pa.field("topic_id", pa.string()),
    pa.field("partition", pa.int32()),
    pa.field("offset", pa.int64()),
]

_SALE: Final = [
    pa.field("event_id", pa.string()),
    pa.field("source_system", pa.string()),
    pa.field("invoice_no", pa.string()),
    pa.field("line_no", pa.int32()),
    pa.field("stock_code", pa.string()),
    pa.field("customer_id", pa.string()),
    pa.field("sale_key", pa.int64()),
    pa.field("customer_key", pa.int64()),
    pa.field("product_key", pa.int64()),
    pa.field("date_key", pa.int32()),
    pa.field("invoice_key", pa.int64()),
    pa.field("quantity", pa.int32()),
    pa.field("unit_price", MONEY),
    pa.field("currency", pa.string()),
    pa.field("total_amount", MONEY),
    pa.field("amount_gbp", MONEY),
    pa.field("country", pa.string()),
    pa.field("country_code", pa.string()),
    pa.field("region", pa.string()),
    pa.field("is_return", pa.bool_()),
    pa.field("is_product", pa.bool_()),
    pa.field("quality_score", pa.float64()),
    pa.field("invoice_ts", INSTANT),
    pa.field("recorded_at", INSTANT),
    pa.field("revision", pa.int32()),
    pa.field("content_hash", pa.string()),
    pa.field("description", pa.string()),
    pa.field("load_id", pa.string()),
    pa.field("ingest_ts", INSTANT),
    pa.field("raw_partition", pa.int32()),
    pa.field("raw_offset", pa.int64()),
]

_HEADERS: Final = pa.list_(pa.struct([pa.field("key", pa.string()), pa.field("value", pa.binary())]))


@dataclass(frozen=True, slots=True)
class Table:
    """One Delta table. `statistics`: columns with minimum and maximum per file in the log.

    `arrival`: the column that says when a row's event was accepted; latency is measured from it.
    """

    name: str
    schema: pa.Schema
    partition_by: tuple[str, ...]
    statistics: tuple[str, ...]
    arrival: str

    def path(self, lake: Path) -> Path:
        return lake / self.name


FACT: Final = Table(
    name="gold/fact_sales",
    schema=pa.schema([*_SALE, *_RECORD]),
    partition_by=(),
    statistics=(
        *("event_id", "invoice_no", "stock_code", "customer_id", "country", "date_key", "invoice_ts"),
        *("recorded_at", "ingest_ts", "partition", "offset"),
    ),
    arrival="ingest_ts",
)

SILVER: Final = Table(
    name="silver/sales",
    schema=pa.schema(
        [
            *_SALE,
            pa.field("attributes", pa.map_(pa.string(), pa.string())),
            pa.field("warnings", pa.list_(pa.string())),
            pa.field("raw_topic_id", pa.string()),
            pa.field("validated_ts", INSTANT),
            pa.field("validated_partition", pa.int32()),
            pa.field("validated_offset", pa.int64()),
            *_RECORD,
            pa.field("business_date", pa.date32()),
        ]
    ),
    partition_by=("business_date", "region"),
    statistics=("event_id", "revision", "invoice_ts", "ingest_ts", "partition", "offset"),
    arrival="ingest_ts",
)

BRONZE: Final = Table(
    name="bronze/sales",
    schema=pa.schema(
        [
            pa.field("key", pa.binary()),
            pa.field("value", pa.binary()),
            pa.field("headers", _HEADERS),
            *_RECORD,
            pa.field("kafka_ts", INSTANT),
            pa.field("ingestion_date", pa.date32()),
            pa.field("source_system", pa.string()),
        ]
    ),
    partition_by=("ingestion_date", "source_system"),
    statistics=("partition", "offset", "kafka_ts"),
    arrival="kafka_ts",
)

QUARANTINE: Final = Table(
    name="bronze/quarantine",
    schema=pa.schema(
        [
            pa.field("item_id", pa.string()),
            pa.field("state", pa.string()),
            pa.field("stage", pa.string()),
            pa.field("event_id", pa.string()),
            pa.field("reason", pa.string()),
            pa.field("rules", pa.list_(pa.string())),
            pa.field("detail", pa.string()),
            pa.field("source_system", pa.string()),
            pa.field("load_id", pa.string()),
            pa.field("ordinal", pa.int64()),
            pa.field("payload", pa.binary()),
            pa.field("payload_format", pa.string()),
            pa.field("schema_id", pa.int32()),
            pa.field("raw_topic_id", pa.string()),
            pa.field("raw_partition", pa.int32()),
            pa.field("raw_offset", pa.int64()),
            pa.field("content_hash", pa.string()),
            pa.field("amount", MONEY),
            pa.field("currency", pa.string()),
            pa.field("traceparent", pa.string()),
            pa.field("ingest_ts", INSTANT),
            pa.field("quarantined_ts", INSTANT),
            pa.field("attempts", pa.int32()),
            *_RECORD,
            pa.field("kafka_ts", INSTANT),
            pa.field("context", pa.string()),
        ]
    ),
    partition_by=(),
    statistics=("item_id", "event_id", "ingest_ts", "partition", "offset"),
    arrival="ingest_ts",
)

_PROPERTIES: Final = {
    # A reader without a checkpoint replays at most so many commits; a fact checkpoint is due every 2 minutes.
    "delta.checkpointInterval": "100",
    # A commit a second makes 86,400 log files a day, and every commit lists the folder. Delta itself cleans
    # up to the last midnight only: gold_writer.maintenance does it by the hour.
    "delta.logRetentionDuration": "interval 6 hours",
}


def properties(table: Table, topic_id: str) -> dict[str, str]:
    """Properties that the table is created with."""
    return {
        **_PROPERTIES,
        "delta.dataSkippingStatsColumns": ",".join(table.statistics),
        TOPIC_ID_PROPERTY: topic_id,
    }


def create(table: Table, lake: Path, topic_id: str) -> bool:
    """Create the table if it is missing, or add the columns that it lacks, without Spark: its DDL costs
    seconds in a cold JVM. True if it was made now.
    """
    path = table.path(lake)
    if DeltaTable.is_deltatable(str(path)):
        _add_columns(table, DeltaTable(str(path)))
        return False
    DeltaTable.create(
        str(path),
        schema=table.schema,
        partition_by=list(table.partition_by),
        configuration=properties(table, topic_id),
        raise_if_key_not_exists=False,
    )
    return True


def _add_columns(table: Table, found: DeltaTable) -> None:
    """A later release has more columns, all nullable and last; rows from before read null there."""
    known = {field.name for field in found.schema().fields}
    wanted = Schema.from_arrow(table.schema).fields
    if missing := [field for field in wanted if field.name not in known]:
        found.alter.add_columns(missing)
