"""Record headers as columns."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import polars as pl
from numpy.typing import NDArray

from streamkit.columns import binary_series
from streamkit.packed_headers import PackedHeaders
from streamkit.ports import Headers, RecordBatch

INGEST_TS = "ingest-ts"
REPLAY_OF = "replay-of"
"""Of a replayed record: the id of the quarantine item that it mends."""
REPLAY_ATTEMPT = "replay-attempt"
"""Its number, from 1."""
REPLAY_LOAD = "replay-"
"""What the load id of a replay begins with; only such loads are looked at for the two headers above."""
_LAST_PLAUSIBLE_MS = 253_402_300_800_000  # the year 10000


def header_column(headers: Sequence[Headers], name: str) -> Sequence[bytes | None]:
    """One value per record, None where the header is missing; where it repeats, any of them.

    A `BinaryColumn` where the headers are packed. Producers write their headers in one order, so the place
    where the last record had it is tried first.
    """
    if isinstance(headers, PackedHeaders):
        return headers.values(name)
    values: list[bytes | None] = []
    place = 0
    for record in headers:
        if place < len(record) and record[place][0] == name:
            values.append(record[place][1])
            continue
        place = next((i for i, header in enumerate(record) if header[0] == name), 0)
        found = place < len(record) and record[place][0] == name
        values.append(record[place][1] if found else None)
    return values


def header_texts(values: Sequence[bytes | None]) -> pl.Series:
    """A header column as text; null where a value is no UTF-8, which any producer may write."""
    column = binary_series(values)
    try:
        return column.cast(pl.String)
    except pl.exceptions.ComputeError:  # raised even where the cast is not strict
        return pl.Series([_decoded(value) for value in values], dtype=pl.String)


def _decoded(value: bytes | None) -> str | None:
    try:
        return None if value is None else value.decode()
    except UnicodeDecodeError:
        return None


def ingest_ts_ms(batch: RecordBatch) -> NDArray[np.int64]:
    """When ingest accepted each record, in ms since 1970 UTC; the broker's timestamp where a producer did not
    say or wrote no plausible number."""
    if isinstance(batch.headers, PackedHeaders):
        return batch.headers.integers(INGEST_TS, _LAST_PLAUSIBLE_MS, batch.timestamp_ms)
    column = header_column(batch.headers, INGEST_TS)
    parsed = (_parse(value, int(ts)) for value, ts in zip(column, batch.timestamp_ms, strict=True))
    return np.fromiter(parsed, np.int64, len(column))


def _parse(value: bytes | None, otherwise: int) -> int:
    # isdigit first: int() also takes signs, spaces and underscores, and quadratic time for long input.
    if value is None or len(value) > 15 or not value.isdigit():
        return otherwise
    number = int(value)
    return number if number < _LAST_PLAUSIBLE_MS else otherwise
