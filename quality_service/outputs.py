"""The records that quality writes, as columns of their Avro schemas.

`rows` are judged rows: an envelope (see `rows.py`), `event_id`, `content_hash`, `outcome`, and the columns of
a raw sale, null for a record that could not be decoded.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import polars as pl

from schemas.decisions import pack
from schemas.identity import receipt_item_id_expr
from streamkit.columns import BinaryColumn, take
from streamkit.headers import header_column, header_texts
from streamkit.ports import Headers, RecordBatch

REROUTED_FROM: Final = "rerouted-from"
_FRAME_BYTES: Final = 5
_MILLIS: Final = pl.Datetime("ms")


def validated(rows: pl.DataFrame, topic_id: str, now_ms: int) -> pl.DataFrame:
    """Accepted rows, with `quality_score` and `warnings`, as validated sales."""
    return rows.with_columns(
        _millis(pl.col("ingest_ts")),
        pl.lit(topic_id).alias("raw_topic_id"),
        pl.col("partition").alias("raw_partition"),
        pl.col("offset").alias("raw_offset"),
        _millis(pl.lit(now_ms)).alias("validated_ts"),
    )


def opened(rows: pl.DataFrame, batch: RecordBatch, topic_id: str, now_ms: int) -> pl.DataFrame:
    """Rejected rows, with `reason`, `rules`, `detail` and `amount_micros`, as open quarantine items."""
    item = receipt_item_id_expr(pl.lit(topic_id), "partition", "offset")
    return _items(rows.with_columns(item.alias("item_id"), state=pl.lit("OPEN")), batch, topic_id, now_ms)


def resolved(rows: pl.DataFrame, batch: RecordBatch, topic_id: str, now_ms: int) -> pl.DataFrame:
    """Accepted rows that resolve the item of the raw offset `resolves`, as resolutions of it.

    The item id is that of the item; bytes, coordinates and the rest are of the record that was accepted.
    """
    item = receipt_item_id_expr(pl.lit(topic_id), "partition", "resolves")
    rows = rows.with_columns(
        item.alias("item_id"),
        state=pl.lit("RESOLVED"),
        reason=pl.lit("ACCEPTED"),
        rules=pl.lit([], dtype=pl.List(pl.String)),
        detail=pl.lit("A later record of this event passed every rejecting rule."),
    )
    return _items(rows, batch, topic_id, now_ms)


def mended(rows: pl.DataFrame, batch: RecordBatch, topic_id: str, now_ms: int) -> pl.DataFrame:
    """Replayed rows whose event is accepted, as resolutions of the item that each `mends`."""
    rows = rows.with_columns(
        pl.col("mends").alias("item_id"),
        state=pl.lit("RESOLVED"),
        reason=pl.lit("ACCEPTED"),
        rules=pl.lit([], dtype=pl.List(pl.String)),
        detail=pl.lit("A replay of this item was accepted."),
    )
    return _items(rows, batch, topic_id, now_ms)


def retried(rows: pl.DataFrame, batch: RecordBatch, topic_id: str, now_ms: int) -> pl.DataFrame:
    """Replayed rows that were refused again, with `reason`, `rules` and `detail`, said of what each mends."""
    return _items(
        rows.with_columns(pl.col("mends").alias("item_id"), state=pl.lit("RETRIED")), batch, topic_id, now_ms
    )


def _items(rows: pl.DataFrame, batch: RecordBatch, topic_id: str, now_ms: int) -> pl.DataFrame:
    positions = rows["position"].to_numpy()
    payloads = [value or b"" for value in take(batch.value, positions)]
    traces = header_column(take(batch.headers, positions), "traceparent")
    return rows.with_columns(
        pl.Series("payload", payloads, dtype=pl.Binary),
        pl.Series("schema_id", [_schema_id(p) for p in payloads], dtype=pl.Int32),
        header_texts(traces).alias("traceparent"),
        _millis(pl.col("ingest_ts")),
        _millis(pl.lit(now_ms)).alias("quarantined_ts"),
        stage=pl.lit("quality"),
        ordinal=pl.lit(None, dtype=pl.Int64),
        payload_format=pl.lit("avro"),
        topic_id=pl.lit(topic_id),
        attempts=pl.col("attempts") if "attempts" in rows.columns else pl.lit(0, dtype=pl.Int32),
    )


def decisions(rows: pl.DataFrame, topic_id: str, now_ms: int) -> pl.DataFrame:
    """One row for each partition in `rows`, which hold every record of the batch: the changelog."""
    packed = [
        {
            "topic_id": topic_id,
            "partition": int(partition),
            "begin_offset": int(own["offset"][0]),
            "end_offset": int(own["offset"][-1]) + 1,
            "rows": own.height,
            "decided_ts": now_ms,
            "payload": pack(own),
        }
        for (partition,), own in rows.sort("partition", "offset").group_by("partition", maintain_order=True)
    ]
    schema = {
        "topic_id": pl.String,
        "partition": pl.Int32,
        "begin_offset": pl.Int64,
        "end_offset": pl.Int64,
        "rows": pl.Int32,
        "decided_ts": pl.Int64,
        "payload": pl.Binary,
    }
    return pl.DataFrame(packed, schema=schema).with_columns(_millis(pl.col("decided_ts")))


def rerouted_headers(batch: RecordBatch, positions: Sequence[int]) -> list[Headers]:
    """The headers of each record, with where it came from."""
    return [
        [*batch.headers[i], (REROUTED_FROM, f"{batch.partition[i]}:{batch.offset[i]}".encode())]
        for i in positions
    ]


def as_keys(texts: pl.Series) -> Sequence[bytes | None]:
    return BinaryColumn.of_series(texts)


def _schema_id(payload: bytes) -> int | None:
    if len(payload) < _FRAME_BYTES or payload[0] != 0:
        return None
    return int.from_bytes(payload[1:_FRAME_BYTES], "big", signed=True)


def _millis(number: pl.Expr) -> pl.Expr:
    return number.cast(pl.Int64).cast(_MILLIS)
