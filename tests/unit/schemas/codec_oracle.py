"""Rows of our topics for Hypothesis, and fastavro as the judge of the codec.

A row is a dict of wire values: a timestamp is its integer of milliseconds.
"""

import io
import struct
from collections.abc import Mapping, Sequence
from typing import Any

import fastavro
import polars as pl
from hypothesis import strategies as st

from schemas import avro
from schemas.catalogue import load_topics

TOPICS = load_topics()
INT = st.integers(-(2**31), 2**31 - 1)
LONG = st.integers(-(2**63), 2**63 - 1)
TEXT = st.text(max_size=12)
VALUES: dict[str, st.SearchStrategy[Any]] = {
    "boolean": st.booleans(),
    "int": INT,
    "long": LONG,
    "timestamp-millis": LONG,
    "timestamp-micros": LONG,
    "double": st.floats(allow_nan=False),
    "string": TEXT,
    "bytes": st.binary(max_size=12),
    "map<string>": st.dictionaries(TEXT, TEXT, max_size=3),
    "array<string>": st.lists(TEXT, max_size=3),
}
Row = dict[str, Any]


def rows(topic: str, *, min_size: int = 0, max_size: int = 6) -> st.SearchStrategy[list[Row]]:
    """Lists of rows of a topic, every field of which takes any value that its type allows."""
    fields = avro.parse(TOPICS[topic].schema_text).fields
    values = {
        field.name: st.none() | VALUES[str(field.kind)] if field.nullable else VALUES[str(field.kind)]
        for field in fields
    }
    return st.lists(st.fixed_dictionaries(values), min_size=min_size, max_size=max_size)


def frame_of(given: Sequence[Row], schema_text: str) -> pl.DataFrame:
    """The rows as a frame with the schema's columns."""
    return pl.DataFrame(
        pl.Series(field.name, [row[field.name] for row in given], field.wire_dtype).cast(field.dtype)
        for field in avro.parse(schema_text).fields
    )


def rows_of(frame: pl.DataFrame) -> list[Row]:
    """The frame as rows."""
    return frame.with_columns(pl.col(pl.Datetime).cast(pl.Int64)).to_dicts()


def encoded(row: Mapping[str, Any], schema_text: str, schema_id: int) -> bytes:
    """The row as fastavro encodes it, framed."""
    buffer = io.BytesIO(struct.pack(">bI", 0, schema_id))
    buffer.seek(5)
    fastavro.schemaless_writer(buffer, parsed(schema_text), row)
    return buffer.getvalue()


def decoded(value: bytes, schema_text: str) -> Any:
    """The row that fastavro reads from a framed value."""
    return fastavro.schemaless_reader(io.BytesIO(value[5:]), parsed(schema_text), None)


def parsed(schema_text: str) -> Any:
    """The schema for fastavro, without logical types."""
    return fastavro.parse_schema(dict(avro.parse(schema_text).plain))


def zigzag(number: int) -> bytes:
    """A long as Avro encodes it."""
    rest = ((number << 1) ^ (number >> 63)) & (2**64 - 1)
    out = bytearray()
    while rest > 0x7F:
        out.append(rest & 0x7F | 0x80)
        rest >>= 7
    out.append(rest)
    return bytes(out)
