"""The small streams into tables that this process alone writes.

    cdc.shop.*        -> bronze/cdc_*          exactly what came, appended
    dim.customers.v1  -> gold/dim_customers    MERGE by the version's key; a tombstone removes the version
    dim.products.v1   -> gold/dim_products     the same

Rows and positions are one commit: each partition's next offset stands in the table itself. A run that dies
before the commit has changed nothing, and there is no checkpoint to lose. An error closes the reader, and the
next run goes on from what the tables say.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final, Protocol

import polars as pl
import pyarrow as pa
from deltalake import DeltaTable, write_deltalake

from gold_writer.maintenance.metrics import MaintenanceMetrics
from gold_writer.maintenance.owned import (
    DIM_CUSTOMERS,
    DIM_PRODUCTS,
    Owned,
    change_table,
    create,
    mark_of,
    marked,
)
from schemas.codec import Codec
from schemas.dimensions import CUSTOMERS, PRODUCTS
from streamkit.ports import RecordBatch, TopicPartition

_log = logging.getLogger(__name__)

DIMENSIONS: Final = {CUSTOMERS.topic: DIM_CUSTOMERS, PRODUCTS.topic: DIM_PRODUCTS}

_MOST_RECORDS: Final = 20_000
_POLL_SECONDS: Final = 0.25
_LOOK_FOR_TOPICS_EVERY: Final = 12


class Reader(Protocol):
    """What the streams need of `topic_reader.TopicReader`."""

    def topics(self) -> dict[str, int]: ...

    def open(self, positions: Mapping[TopicPartition, int | None]) -> None: ...

    def poll(self, max_records: int, timeout_s: float) -> list[RecordBatch]: ...

    def close(self) -> None: ...


class CorruptInput(Exception):  # noqa: N818 - reads as what happened
    """A record cannot be decoded: something other than the platform wrote to its topic."""


class Streams:
    """Not thread-safe: it belongs to its lane. `lock` is held while a table is written."""

    def __init__(
        self,
        lake: Path,
        reader: Callable[[], Reader],
        topic_ids: Callable[[list[str]], Mapping[str, str]],
        codecs: Mapping[str, Codec],
        metrics: MaintenanceMetrics,
        *,
        change_prefix: str,
        lock: threading.Lock,
    ) -> None:
        self._lake = lake
        self._make_reader = reader
        self._topic_ids = topic_ids
        self._codecs = dict(codecs)
        self._metrics = metrics
        self._prefix = change_prefix
        self._lock = lock
        self._reader: Reader | None = None
        self._tables: dict[str, Owned] = {}
        self._ids: Mapping[str, str] = {}
        self._rounds = 0

    def run(self) -> None:
        """Everything that the topics have now. Raises BrokerError, RegistryUnavailable, CorruptInput."""
        try:
            reader = self._opened()
            while batches := reader.poll(_MOST_RECORDS, _POLL_SECONDS):
                for batch in batches:
                    self._write(batch)
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        if self._reader is not None:
            self._reader.close()
            self._reader, self._tables = None, {}

    def _opened(self) -> Reader:
        """The reader, opened anew when topics of ours have come."""
        self._rounds += 1
        if self._reader is not None and self._rounds % _LOOK_FOR_TOPICS_EVERY:
            return self._reader
        reader = self._reader = self._reader or self._make_reader()
        found = {
            topic: count
            for topic, count in reader.topics().items()
            if topic in DIMENSIONS or topic.startswith(self._prefix)
        }
        if found.keys() != self._tables.keys():
            self._ids = self._topic_ids(sorted(found))
            self._tables = {t: DIMENSIONS.get(t) or change_table(t, self._prefix) for t in found}
            reader.open({at: next_ for t, count in found.items() for at, next_ in self._positions(t, count)})
            _log.info("reading", extra={"topics": sorted(found)})
        return reader

    def _positions(self, topic: str, partitions: int) -> list[tuple[TopicPartition, int | None]]:
        table = create(self._tables[topic], self._lake)
        return [
            (TopicPartition(topic, n), table.transaction_version(mark_of(self._ids[topic], n)))
            for n in range(partitions)
        ]

    def _write(self, batch: RecordBatch) -> None:
        table, topic_id = self._tables[batch.topic], self._ids[batch.topic]
        marks = {mark_of(topic_id, tp.partition): at for tp, at in batch.next_offsets().items()}
        path = str(table.path(self._lake))
        if batch.topic in DIMENSIONS:
            rows = version_rows(self._codecs[batch.topic], batch, topic_id, table)
            with self._lock:
                merge_versions(DeltaTable(path), rows, marks)
        else:
            rows = change_rows(batch, topic_id, table)
            with self._lock:
                write_deltalake(path, rows, mode="append", commit_properties=marked(marks))
        self._metrics.rows.labels("streams", table.name).inc(rows.num_rows)


def change_rows(batch: RecordBatch, topic_id: str, table: Owned) -> pa.Table:
    """Records as rows of their bronze table: bytes and headers as they came."""
    header = pa.struct([pa.field("key", pa.string()), pa.field("value", pa.binary())])
    stamps = pa.array(batch.timestamp_ms * 1000, pa.int64()).cast(table.schema.field("kafka_ts").type)
    columns = {
        "key": pa.array(batch.key, pa.binary()),
        "value": pa.array(batch.value, pa.binary()),
        "headers": pa.array(
            [[{"key": name, "value": value} for name, value in found] for found in batch.headers],
            pa.list_(header),
        ),
        "topic_id": pa.array([topic_id] * len(batch), pa.string()),
        "partition": pa.array(batch.partition, pa.int32()),
        "offset": pa.array(batch.offset, pa.int64()),
        "kafka_ts": stamps,
        "ingestion_date": stamps.cast(pa.date32()),
    }
    return pa.table({name: columns[name] for name in table.schema.names}, schema=table.schema)


def version_rows(codec: Codec, batch: RecordBatch, topic_id: str, table: Owned) -> pa.Table:
    """The last state of each version in the batch as a row of its table and `withdrawn`, which a tombstone
    sets. Raises CorruptInput."""
    keyed = [(key or b"").decode("utf-8", "replace") for key in batch.key]
    records = pl.DataFrame(
        {
            "at": pl.int_range(len(batch), eager=True),
            "record_key": pl.Series(keyed, dtype=pl.String),
            "topic_id": pl.Series([topic_id] * len(batch), dtype=pl.String),
            "partition": batch.partition,
            "offset": batch.offset,
            "withdrawn": [value is None for value in batch.value],
        }
    )
    told = [(place, value) for place, value in enumerate(batch.value) if value is not None]
    decoded = codec.decode([value for _, value in told])
    if decoded.bad:
        place = told[decoded.bad[0].position][0]
        where = f"{batch.topic}[{batch.partition[place]}]@{batch.offset[place]}"
        raise CorruptInput(f"{where} cannot be decoded: {decoded.bad[0].reason}")
    frame = decoded.frame.with_columns(at=pl.Series([told[i][0] for i in decoded.index], dtype=pl.Int64))
    if "list_price_micros" in frame.columns:
        price = pl.col("list_price_micros").cast(pl.Decimal(20, 0)) * pl.lit("0.000001").cast(
            pl.Decimal(7, 6)
        )
        frame = frame.with_columns(list_price=price.cast(pl.Decimal(20, 6)))
    last = records.sort("record_key", "partition", "offset").unique("record_key", keep="last")
    rows = last.join(frame, on="at", how="left", maintain_order="left")
    columns = [*table.schema.names, "withdrawn"]
    arrow: pa.Table = rows.select(columns).to_arrow()
    return arrow.cast(table.schema.append(pa.field("withdrawn", pa.bool_())))


def merge_versions(table: DeltaTable, rows: pa.Table, marks: Mapping[str, int]) -> None:
    """MERGE by the record's key, which names natural key and effective date. Again it changes nothing."""
    columns = [name for name in rows.column_names if name != "withdrawn"]
    taken = {name: f"s.{name}" for name in columns}
    merge = (
        table.merge(
            rows,
            "t.record_key = s.record_key",
            source_alias="s",
            target_alias="t",
            commit_properties=marked(marks),
        )
        .when_matched_delete("s.withdrawn")
        .when_matched_update(taken, predicate="NOT s.withdrawn")
        .when_not_matched_insert(taken, predicate="NOT s.withdrawn")
    )
    merge.execute()
