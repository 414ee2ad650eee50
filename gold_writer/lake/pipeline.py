"""The way of a record into each table.

    sales.raw.v1        -> bronze/sales        exactly the bytes and headers that came
    sales.quarantine.v1 -> bronze/quarantine   every quarantined item and its resolution
    sales.enriched.v1   -> silver/sales        every revision of every sale
    sales.enriched.v1   -> gold/fact_sales     revision 0 of every sale; maintenance applies later ones

A heartbeat goes through every batch and enters no table; silver and gold note when it was accepted.

Four queries of their own, so that the fact waits for nothing. The sink commits a batch's rows and (query id,
batch id) in one transaction, and a batch that is run again after a crash is skipped. No query has state, a
watermark or a shuffle, so no row can be dropped as late.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from gold_writer.lake.tables import BRONZE, FACT, QUARANTINE, SILVER, Table
from schemas.heartbeat import PREFIX as HEARTBEAT_PREFIX

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession


SINK: Final = "tillstream.sink.AppendSinkProvider"  # deploy/local/jars/java/AppendSink.java
HEARTBEAT_METRIC: Final = "heartbeat"


def money(micros: str, name: str) -> str:
    """Micros as decimal(20,6): exact, for the product of two decimals is one."""
    return f"CAST(CAST({micros} AS DECIMAL(20, 0)) * 0.000001BD AS DECIMAL(20, 6)) AS {name}"


# A partition's folder is named after its value: 255 bytes with the column's name, up to 4 bytes a character.
_SOURCE: Final = "CAST(get(filter(headers, h -> h.key = 'ce_source'), 0).value AS STRING)"
_SOURCE_OR_UNKNOWN: Final = (
    f"CASE WHEN is_valid_utf8({_SOURCE}) AND length({_SOURCE}) BETWEEN 1 AND 60 "
    f"AND NOT {_SOURCE} RLIKE '\\\\p{{Cntrl}}' THEN {_SOURCE} ELSE 'unknown' END AS source_system"
)

# By key and value: whoever uses the key for a sale of his still finds it in bronze. The id is the first field
# of the record that ingest writes, after the frame of five bytes and a length of one.
_PREFIX_BYTES: Final = f"X'{HEARTBEAT_PREFIX.encode().hex()}'"
_RAW_HEARTBEAT: Final = (
    f"startswith(key, {_PREFIX_BYTES}) AND substring(value, 7, {len(HEARTBEAT_PREFIX)}) = {_PREFIX_BYTES}"
)

_DERIVED: Final = {
    "unit_price": money("sale.unit_price_micros", "unit_price"),
    "total_amount": money("sale.total_amount_micros", "total_amount"),
    "amount_gbp": money("sale.amount_gbp_micros", "amount_gbp"),
    "business_date": "to_date(sale.invoice_ts) AS business_date",
}

_RENAMED: Final = {
    "raw_topic_id": "item.topic_id AS raw_topic_id",
    "raw_partition": "item.partition AS raw_partition",
    "raw_offset": "item.offset AS raw_offset",
    "amount": money("item.amount_micros", "amount"),
    "kafka_ts": "timestamp AS kafka_ts",
}


@dataclass(frozen=True, slots=True)
class Source:
    """A topic as a query sees it. `decode`: SQL that turns `value` into a struct; None: it is not read."""

    topic: str
    topic_id: str
    decode: str | None


@dataclass(frozen=True, slots=True)
class Query:
    """One streaming query: from a topic into a table, by a trigger."""

    name: str
    source: Source
    table: Table
    trigger_ms: int

    @property
    def with_headers(self) -> bool:
        return self.table is BRONZE

    def rows(self, records: DataFrame) -> DataFrame:
        """Records of the Kafka source -> rows of the table.

        One task reads all partitions of the topic and so writes one file, or one for each partition of the
        table: the cost of a batch is per file and task, hardly per row.
        """
        return _ROWS[self.table.name](records.coalesce(1), self.source)


def kafka_options(query: Query, bootstrap: str, max_offsets: int, starting_offsets: str) -> dict[str, str]:
    return {
        "kafka.bootstrap.servers": bootstrap,
        "subscribe": query.source.topic,
        "startingOffsets": starting_offsets,
        "failOnDataLoss": "true",
        "maxOffsetsPerTrigger": str(max_offsets),
        "includeHeaders": str(query.with_headers).lower(),
        "groupIdPrefix": f"tillstream.lake.{query.name}",
        # Producers write in transactions: an aborted one must not reach the lake.
        "kafka.isolation.level": "read_committed",
    }


def read(spark: SparkSession, options: Mapping[str, str]) -> DataFrame:
    return spark.readStream.format("kafka").options(**options).load()


def starting_offsets(topic: str, offsets: Mapping[int, int] | None) -> str:
    """Kafka source's `startingOffsets`: the next offset per partition, or the beginning."""
    if offsets is None:
        return "earliest"
    return json.dumps({topic: {str(partition): offset for partition, offset in sorted(offsets.items())}})


def bronze(records: DataFrame, source: Source) -> DataFrame:
    return records.where(f"NOT coalesce({_RAW_HEARTBEAT}, false)").selectExpr(
        "key",
        "value",
        "headers",
        f"'{source.topic_id}' AS topic_id",
        "partition",
        "offset",
        "timestamp AS kafka_ts",
        "to_date(timestamp) AS ingestion_date",
        _SOURCE_OR_UNKNOWN,
    )


def quarantine(records: DataFrame, source: Source) -> DataFrame:
    items = _decoded(records, source, "item")
    return items.selectExpr(*_columns(QUARANTINE, source, "item", _RENAMED))


def silver(records: DataFrame, source: Source) -> DataFrame:
    sales = _sales(records, source)
    return sales.selectExpr(*_columns(SILVER, source, "sale", _DERIVED))


def fact(records: DataFrame, source: Source) -> DataFrame:
    sales = _sales(records, source)
    return sales.where("sale.revision = 0").selectExpr(*_columns(FACT, source, "sale", _DERIVED))


def _sales(records: DataFrame, source: Source) -> DataFrame:
    """The decoded records that are sales. When the newest heartbeat among the others was accepted becomes a
    metric of the batch's progress report (`progress.batch_of`)."""
    from pyspark.sql import functions  # noqa: PLC0415 - pyspark is there only where the JVM is

    heartbeat = f"startswith(sale.event_id, '{HEARTBEAT_PREFIX}')"
    newest = functions.expr(f"max(CASE WHEN {heartbeat} THEN unix_millis(sale.ingest_ts) END)")
    decoded = _decoded(records, source, "sale").observe(HEARTBEAT_METRIC, newest.alias("accepted_ms"))
    return decoded.where(f"NOT {heartbeat}")


def _decoded(records: DataFrame, source: Source, name: str) -> DataFrame:
    return records.selectExpr(f"{source.decode} AS {name}", "partition", "offset", "timestamp")


def _columns(table: Table, source: Source, struct: str, special: Mapping[str, str]) -> list[str]:
    """The table's columns in its order, each as SQL over the struct or over the record."""
    record = {"topic_id": f"'{source.topic_id}' AS topic_id", "partition": "partition", "offset": "offset"}
    return [
        record.get(name) or special.get(name) or f"{struct}.{name} AS {name}" for name in table.schema.names
    ]


_ROWS: Final[dict[str, Callable[[DataFrame, Source], DataFrame]]] = {
    BRONZE.name: bronze,
    QUARANTINE.name: quarantine,
    SILVER.name: silver,
    FACT.name: fact,
}
