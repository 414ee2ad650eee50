"""Decoding and encoding whole batches with pyruhvro.

What pyruhvro 0.4.0 leaves to us: it knows no bytes, it panics (as a ``BaseException``) on types that it
lacks, it does not check that strings are UTF-8, which Polars relies on for memory safety, and one bad
record fails the batch without saying which.
"""

from collections.abc import Callable
from typing import Final

import numpy as np
import numpy.typing as npt
import polars as pl
import pyarrow as pa
import pyruhvro

from schemas.avro import RecordSchema

_ARROW: Final[dict[str, pa.DataType]] = {
    "string": pa.string(),
    "map<string>": pa.map_(pa.string(), pa.string()),
    "array<string>": pa.list_(pa.field("item", pa.string())),
}

_MANY_PARTS: Final = 16
_NONE: Final = np.empty(0, dtype=np.int64)

Batches = list[tuple[int, pa.RecordBatch]]


def decoder(
    writer: RecordSchema,
) -> Callable[[list[bytes]], tuple[pl.DataFrame, npt.NDArray[np.int64], list[tuple[int, str]]]]:
    """Decoder of payloads to the writer's wire columns."""
    wire = writer.wire

    def decode(payloads: list[bytes]) -> tuple[pl.DataFrame, npt.NDArray[np.int64], list[tuple[int, str]]]:
        good: Batches = []
        bad: list[tuple[int, str]] = []
        _isolate(payloads, 0, wire, good, bad)
        index = np.concatenate(
            [np.arange(at, at + len(batch), dtype=np.int64) for at, batch in good] or [_NONE]
        )
        frame = pl.from_arrow(pa.Table.from_batches(_joined(payloads, index, wire, good)))
        assert isinstance(frame, pl.DataFrame)
        return frame, index, bad

    return decode


def _isolate(payloads: list[bytes], at: int, wire: str, good: Batches, bad: list[tuple[int, str]]) -> None:
    """Decode payloads, halving the batch where it fails. ``at`` is the place of the first.

    The depth is the logarithm of the batch; a failure stops at the first bad record, so that even a
    batch of nothing else costs some 20 microseconds a record.
    """
    batch, reason = _attempt(payloads, wire)
    if batch is not None:
        good.append((at, batch))
    elif len(payloads) == 1:
        bad.append((at, f"not the Avro of its schema: {reason}"))
    else:
        middle = len(payloads) // 2
        _isolate(payloads[:middle], at, wire, good, bad)
        _isolate(payloads[middle:], at + middle, wire, good, bad)


def _joined(
    payloads: list[bytes], index: npt.NDArray[np.int64], wire: str, good: Batches
) -> list[pa.RecordBatch]:
    """The good batches; many small ones are decoded anew as one, for each costs as much as 100 rows."""
    if len(good) > _MANY_PARTS:
        whole, _ = _attempt([payloads[place] for place in index.tolist()], wire)
        if whole is not None:
            return [whole]
    return [batch for _, batch in good] or [pyruhvro.deserialize_array([], wire)]


def _attempt(payloads: list[bytes], wire: str) -> tuple[pa.RecordBatch | None, str]:
    """The decoded batch, or None and why not."""
    try:
        batch = pyruhvro.deserialize_array(payloads, wire)
        batch.validate(full=True)  # UTF-8, in nested columns too
    except BaseException as error:
        if not _is_verdict(error):
            raise
        return None, str(error)
    return batch, ""


def _is_verdict(error: BaseException) -> bool:
    """Whether an error is about the data: a ValueError (pyarrow's too) or a panic in Rust.

    Anything else, such as KeyboardInterrupt or MemoryError, is none of the record's doing.
    """
    kind = type(error)
    return isinstance(error, ValueError) or (kind.__module__, kind.__name__) == (
        "pyo3_runtime",
        "PanicException",
    )


def encode(columns: pl.DataFrame, schema: RecordSchema, header: bytes) -> list[bytes]:
    """Framed values of a frame that has exactly the schema's columns and types."""
    if not len(columns):
        return []
    table = columns.to_arrow(compat_level=pl.CompatLevel.oldest())
    arrays = [_array(table.column(field.name), _ARROW.get(field.kind or "", None)) for field in schema.fields]
    batch = pa.RecordBatch.from_arrays(arrays, names=[field.name for field in schema.fields])
    parts = pyruhvro.serialize_record_batch(batch, schema.text, 1)
    return [header + value for part in parts for value in part.to_pylist()]


def _array(column: pa.ChunkedArray, target: pa.DataType | None) -> pa.Array:
    """One contiguous array with 32-bit offsets, which is all that pyruhvro takes."""
    joined = column.combine_chunks()
    array = joined.chunk(0) if isinstance(joined, pa.ChunkedArray) else joined
    return array if target is None else array.cast(target)
