"""Tables of the lake that this process alone writes, as data, and how they are made."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import pyarrow as pa
from deltalake import CommitProperties, DeltaTable, Transaction

from gold_writer.lake.tables import BRONZE, INSTANT, MONEY

_TEXT: Final = pa.string()
_RECORD: Final = [
    pa.field("record_key", _TEXT),
    pa.field("topic_id", _TEXT),
    pa.field("partition", pa.int32()),
    pa.field("offset", pa.int64()),
]
# What every version of a member has: schemas/avro/dim.*.v1.avsc says what each means.
_VERSION: Final = [
    pa.field("effective_date", INSTANT),
    pa.field("expiry_date", INSTANT),
    pa.field("is_current", pa.bool_()),
    pa.field("version_number", pa.int32()),
    pa.field("is_deleted", pa.bool_()),
    pa.field("is_inferred", pa.bool_()),
    pa.field("inferred_from", INSTANT),
    pa.field("valid_from", INSTANT),
    pa.field("source_lsn", pa.int64()),
    pa.field("deleted_lsn", pa.int64()),
    pa.field("restated", pa.list_(_TEXT)),
    pa.field("recorded_at", INSTANT),
    *_RECORD,
]


@dataclass(frozen=True, slots=True)
class Owned:
    """One table. `statistics`: columns with minimum and maximum per file."""

    name: str
    schema: pa.Schema
    statistics: tuple[str, ...]
    partition_by: tuple[str, ...] = ()

    def path(self, lake: Path) -> Path:
        return lake / self.name


DIM_CUSTOMERS: Final = Owned(
    "gold/dim_customers",
    pa.schema(
        [
            pa.field("customer_key", pa.int64()),
            *(
                pa.field(name, _TEXT)
                for name in (
                    *("customer_id", "name", "email", "phone", "address", "country", "country_code"),
                    *("region", "segment", "value_tier"),
                )
            ),
            *_VERSION,
        ]
    ),
    ("customer_key", "customer_id", "effective_date", "is_current"),
)

DIM_PRODUCTS: Final = Owned(
    "gold/dim_products",
    pa.schema(
        [
            pa.field("product_key", pa.int64()),
            pa.field("stock_code", _TEXT),
            pa.field("description", _TEXT),
            pa.field("category", _TEXT),
            pa.field("list_price", MONEY),
            pa.field("currency", _TEXT),
            pa.field("supplier", _TEXT),
            pa.field("is_product", pa.bool_()),
            *_VERSION,
        ]
    ),
    ("product_key", "stock_code", "effective_date", "is_current"),
)


def change_table(topic: str, prefix: str) -> Owned:
    """Bronze of one captured table: exactly the records that came, as `bronze/sales` has them."""
    name = "bronze/cdc_" + topic.removeprefix(prefix).replace(".", "_")
    schema = pa.schema([field for field in BRONZE.schema if field.name != "source_system"])
    return Owned(name, schema, ("partition", "offset", "kafka_ts"), ("ingestion_date",))


def create(table: Owned, lake: Path) -> DeltaTable:
    """The table, made if it is missing."""
    return DeltaTable.create(
        str(table.path(lake)),
        schema=table.schema,
        mode="ignore",
        partition_by=list(table.partition_by),
        configuration={
            "delta.checkpointInterval": "100",
            "delta.logRetentionDuration": "interval 7 days",
            "delta.dataSkippingStatsColumns": ",".join(table.statistics),
        },
    )


def mark_of(topic_id: str, partition: int) -> str:
    """Application id under which a table keeps the next offset of a partition to be read into it."""
    return f"tillstream.next.{topic_id}.{partition}"


def marked(marks: Mapping[str, int]) -> CommitProperties:
    """A commit that moves the table's positions together with its rows."""
    return CommitProperties(
        app_transactions=[Transaction(name, version) for name, version in marks.items()],
    )
