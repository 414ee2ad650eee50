"""From Kafka records to the rows that quality judges: normalised, identified, with their coordinates."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
import polars as pl
from numpy.typing import NDArray

from schemas.codec import Bad, Decoded
from schemas.identity import (
    bytes_hash,
    content_hash_expr,
    event_id_expr,
    murmur2_partition_series,
    normalise,
    undecodable_event_id,
)
from streamkit.headers import header_column, ingest_ts_ms
from streamkit.ports import RecordBatch

LOAD_ID: Final = "load-id"
NUL: Final = "\x00"
_LAST_PLAUSIBLE_MS: Final = 253_402_300_800_000  # the year 10000


def envelope(batch: RecordBatch, now_ms: int) -> pl.DataFrame:
    """Around each record: `position` in the batch, `partition`, `offset`, `ingest_ts` (ms), `load_id`."""
    ingest_ts = ingest_ts_ms(batch)
    # The broker's timestamp is the producer's as well, where the topic does not say otherwise.
    implausible = (ingest_ts < 0) | (ingest_ts >= _LAST_PLAUSIBLE_MS)
    load_id = pl.Series(header_column(batch.headers, LOAD_ID), dtype=pl.Binary)
    return pl.DataFrame(
        {
            "position": np.arange(len(batch), dtype=np.int64),
            "partition": batch.partition,
            "offset": batch.offset,
            "ingest_ts": np.where(implausible, now_ms, ingest_ts),
            "load_id": load_id.cast(pl.String, strict=False),
        }
    )


def sales(decoded: Decoded, surrounding: pl.DataFrame) -> pl.DataFrame:
    """The decoded records, normalised, with `event_id`, `content_hash` and their envelope."""
    frame = normalise(_without_nul(decoded.frame))
    derived = event_id_expr("source_system", "invoice_no", "line_no")
    return frame.with_columns(
        pl.when(pl.col("event_id") == "").then(derived).otherwise("event_id").alias("event_id"),
        content_hash_expr().alias("content_hash"),
        *surrounding[decoded.index].get_columns(),
    )


def undecodable(bad: Sequence[Bad], batch: RecordBatch, surrounding: pl.DataFrame) -> pl.DataFrame:
    """Records that could not be decoded, known by their bytes; `detail` says why."""
    payloads = [batch.value[b.position] or b"" for b in bad]
    positions = np.array([b.position for b in bad], dtype=np.int64)
    return surrounding[positions].with_columns(
        pl.Series("event_id", [undecodable_event_id(p) for p in payloads], dtype=pl.String),
        pl.Series("content_hash", [bytes_hash(p) for p in payloads], dtype=pl.String),
        pl.Series("detail", [b.reason for b in bad], dtype=pl.String),
    )


def is_stray(rows: pl.DataFrame, partitions: int) -> pl.Series:
    """Whether each row lies on another partition than that of its event id."""
    return pl.Series(home(rows, partitions) != rows["partition"].to_numpy(), dtype=pl.Boolean)


def home(rows: pl.DataFrame, partitions: int) -> NDArray[np.int32]:
    """The partition of each row's event id."""
    return murmur2_partition_series(rows["event_id"], partitions)


def _without_nul(frame: pl.DataFrame) -> pl.DataFrame:
    """Avro's strings may hold U+0000 and Postgres' text may not. It is left out here, once for all stores."""
    texts = [name for name, dtype in frame.schema.items() if dtype == pl.String]
    return frame.with_columns(pl.col(texts).str.replace_all(NUL, "", literal=True))
