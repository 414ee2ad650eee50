"""What quality decides about raw records, packed: the payload of ``sales.decisions.v1``.

One row per raw record of a batch, as a compressed Arrow IPC stream. It is the changelog of quality's
id store and the ledger's receipts, so that nothing in it may be lost: packing refuses nulls.
"""

import io
from enum import IntEnum
from typing import Final

import polars as pl


class Outcome(IntEnum):
    """What became of a raw record."""

    ACCEPTED = 0
    DUPLICATE = 1
    REJECTED = 2
    CONFLICT = 3
    REROUTED = 4
    """Passed on to the partition of its event id: not a receipt."""
    ACCEPTED_RESOLVING = 5
    """Accepted, and it resolved an open quarantine item of its event id."""


SCHEMA: Final[dict[str, pl.DataType]] = {
    "offset": pl.Int64(),
    "event_id": pl.String(),
    "content_hash": pl.String(),
    "outcome": pl.UInt8(),
    "reason": pl.String(),
    "load_id": pl.String(),
    "ingest_ts": pl.Int64(),
    "amount_micros": pl.Int64(),
}
"""Columns of a batch. ``ingest_ts`` is in ms since 1970; ``reason`` is the first rule that applied."""

REQUIRED: Final = ("offset", "event_id", "content_hash", "outcome", "ingest_ts")
_DICTIONARIES: Final = ("reason", "load_id")
_END_OF_STREAM: Final = b"\xff\xff\xff\xff\x00\x00\x00\x00"
_ENCODED: Final = pl.Categorical()


class DecisionsError(ValueError):
    """A batch of decisions that cannot be packed, or bytes that are none."""


def pack(frame: pl.DataFrame) -> bytes:
    """Bytes of a batch with the columns of :data:`SCHEMA`; others are left out.

    Raises :class:`DecisionsError` where a column is missing or a required one holds a null.
    """
    if missing := SCHEMA.keys() - set(frame.columns):
        raise DecisionsError(f"decisions lack {', '.join(sorted(missing))}")
    rows = frame.select(pl.col(name).cast(dtype) for name, dtype in SCHEMA.items())
    if holes := [name for name in REQUIRED if rows[name].null_count()]:
        raise DecisionsError(f"decisions hold nulls in {', '.join(holes)}")
    buffer = io.BytesIO()
    rows.with_columns(pl.col(_DICTIONARIES).cast(_ENCODED)).write_ipc_stream(buffer, compression="zstd")
    return buffer.getvalue()


def unpack(payload: bytes) -> pl.DataFrame:
    """The batch that :func:`pack` was given. Raises :class:`DecisionsError`.

    A stream that was cut between two messages reads as one with fewer rows, hence the look at its end.
    """
    if not payload.endswith(_END_OF_STREAM):
        raise DecisionsError("no packed decisions: the stream has no end")
    try:
        rows = pl.read_ipc_stream(io.BytesIO(payload))
        return rows.select(pl.col(name).cast(dtype) for name, dtype in SCHEMA.items())
    except (pl.exceptions.PolarsError, OSError, ValueError) as error:
        raise DecisionsError(f"no packed decisions: {error}") from error
