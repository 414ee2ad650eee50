"""Decoding and encoding record by record with fastavro, for schemas with types that pyruhvro lacks."""

import io
from collections.abc import Callable
from typing import Any

import fastavro
import numpy as np
import numpy.typing as npt
import polars as pl

from schemas.avro import RecordSchema, SchemaNotSupported, projection


def decoder(
    writer: RecordSchema, reader: RecordSchema
) -> Callable[[list[bytes]], tuple[pl.DataFrame, npt.NDArray[np.int64], list[tuple[int, str]]]]:
    """Decoder of a writer's payloads to the wire columns of the reader; Avro resolves the schemas.

    Raises ``SchemaNotSupported``.
    """
    projection(writer, reader)
    written = _parsed({**writer.plain, "name": reader.name, "namespace": reader.plain.get("namespace", "")})
    wanted = _parsed(reader.plain)
    columns = {field.name: field.wire_dtype for field in reader.fields}

    def decode(payloads: list[bytes]) -> tuple[pl.DataFrame, npt.NDArray[np.int64], list[tuple[int, str]]]:
        rows: list[Any] = []
        index: list[int] = []
        bad: list[tuple[int, str]] = []
        for at, payload in enumerate(payloads):
            try:
                stream = io.BytesIO(payload)
                row = fastavro.schemaless_reader(stream, written, wanted)
                if stream.tell() != len(payload):
                    raise ValueError("bytes are left over")
                rows.append(row)
                index.append(at)
            except MemoryError:
                raise
            except Exception as error:  # hostile bytes raise whatever a decoder step raises
                bad.append((at, f"not the Avro of its schema: {type(error).__name__} {error}".strip()))
        # By columns: Polars 2.1 turns maps into nulls when it is given rows.
        series = [pl.Series(name, [row[name] for row in rows], dtype) for name, dtype in columns.items()]
        return pl.DataFrame(series), np.array(index, dtype=np.int64), bad

    return decode


def encode(columns: pl.DataFrame, schema: RecordSchema, header: bytes) -> list[bytes]:
    """Framed values of a frame that has exactly the schema's columns and types."""
    parsed = _parsed(schema.plain)
    buffer = io.BytesIO()
    values = []
    for row in columns.with_columns(pl.col(pl.Datetime).cast(pl.Int64)).iter_rows(named=True):
        buffer.seek(0)
        buffer.truncate()
        buffer.write(header)
        fastavro.schemaless_writer(buffer, parsed, row)
        values.append(buffer.getvalue())
    return values


def _parsed(schema: Any) -> Any:
    try:
        return fastavro.parse_schema(schema)
    except Exception as error:  # fastavro has no common base of its errors
        raise SchemaNotSupported(str(error)) from error
