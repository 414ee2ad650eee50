"""Decoding and encoding whole columns natively, where the library is built and knows every type of a schema.

What it reads, `schemas.fast` and `schemas.slow` read alike (tests/unit/schemas compares them); it refuses
broken blocks that pyruhvro lets pass as empty ones.
"""

from collections.abc import Sequence
from functools import cache
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import polars as pl

from native import avro
from native.library import NativeUnavailable, load
from schemas.avro import RecordSchema

__all__ = ["MAX_BYTES", "Fields", "decode", "encode", "fields", "schema_ids"]

Fields = Sequence[avro.Plain]
MAX_BYTES: Final = (1 << 31) - 1
_WIRE: Final = {"timestamp-millis": "long", "timestamp-micros": "long"}

schema_ids = avro.schema_ids


@cache
def available() -> bool:
    try:
        load()
    except NativeUnavailable:
        return False
    return True


def fields(schema: RecordSchema) -> Fields | None:
    """The schema's fields for the native library, or None where it cannot be used."""
    if not available():
        return None
    found = []
    for field, entry in zip(schema.fields, schema.plain["fields"], strict=True):
        kind = _WIRE.get(field.kind or "", field.kind)
        options = entry["type"]
        if kind not in avro.KINDS or (
            isinstance(options, list) and (len(options) != 2 or not field.nullable)
        ):
            return None
        null_branch = options.index("null") if isinstance(options, list) else -1
        found.append(avro.Plain(field.name, kind, null_branch))
    return found


def decode(
    array: Any, rows: npt.NDArray[np.int64] | None, skip: int, writer: Fields
) -> tuple[pl.DataFrame, npt.NDArray[np.int64], list[tuple[int, str]]]:
    """Values of a LargeBinary array to the writer's wire columns; see `schemas.codec.Decode`."""
    decoded = avro.decode(array, rows, skip, writer)
    frame = pl.from_arrow(decoded.table)
    assert isinstance(frame, pl.DataFrame)
    bad = [(place, f"not the Avro of its schema: {reason}") for place, reason in decoded.bad]
    return frame, decoded.kept, bad


def encode(columns: pl.DataFrame, writer: Fields, header: bytes) -> Any:
    """A LargeBinary array of framed values of a frame that has exactly the schema's columns and types."""
    newest = pl.CompatLevel.newest()
    arrays = [column.rechunk().to_arrow(compat_level=newest) for column in columns.get_columns()]
    return avro.encode(arrays, writer, header)
