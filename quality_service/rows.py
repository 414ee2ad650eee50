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
from streamkit.headers import INGEST_TS, header_column, header_texts
from streamkit.ports import RecordBatch

LOAD_ID: Final = "load-id"
NUL: Final = "\x00"
_LAST_PLAUSIBLE_MS: Final = 253_402_300_799_999  # the end of the year 9999


def envelope(batch: RecordBatch, now_ms: int) -> pl.DataFrame:
    """Around each record: `position` in the batch, `partition`, `offset`, `ingest_ts` (ms), `load_id`."""
    said = header_texts(header_column(batch.headers, INGEST_TS))
    # Digits alone, as many as the year 10000 has; what else would parse is no time that ingest wrote.
    ingest_ts = pl.when(pl.col("said").str.contains(r"^[0-9]{1,15}$")).then(
        pl.col("said").cast(pl.Int64, strict=False)
    )
    # The broker's timestamp is the producer's as well, where the topic does not say otherwise.
    plausible = [
        pl.when(time.is_between(0, _LAST_PLAUSIBLE_MS)).then(time) for time in (ingest_ts, pl.col("broker"))
    ]
    frame = pl.DataFrame(
        {
            "position": np.arange(len(batch), dtype=np.int64),
            "partition": batch.partition,
            "offset": batch.offset,
            "load_id": header_texts(header_column(batch.headers, LOAD_ID)),
            "said": said,
            "broker": batch.timestamp_ms,
        }
    )
    return frame.select(
        "position", "partition", "offset", "load_id", pl.coalesce(*plausible, now_ms).alias("ingest_ts")
    )


def sales(decoded: Decoded, surrounding: pl.DataFrame) -> pl.DataFrame:
    """The decoded records, normalised, with `event_id`, `content_hash` and their envelope."""
    frame = _with_event_id(normalise(_without_nul(decoded.frame)))
    around = surrounding if len(decoded.index) == surrounding.height else surrounding[decoded.index]
    return frame.with_columns(content_hash_expr().alias("content_hash"), *around.get_columns())


def _with_event_id(frame: pl.DataFrame) -> pl.DataFrame:
    """Derive the ids that producers left out."""
    if not (frame["event_id"] == "").any():
        return frame
    derived = event_id_expr("source_system", "invoice_no", "line_no")
    return frame.with_columns(
        pl.when(pl.col("event_id") != "").then("event_id").otherwise(derived).alias("event_id")
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
    found = frame.select(pl.col(pl.String).str.contains(NUL, literal=True).any())
    names = [name for name in found.columns if found[name].item()]
    return frame.with_columns(pl.col(names).str.replace_all(NUL, "", literal=True)) if names else frame
