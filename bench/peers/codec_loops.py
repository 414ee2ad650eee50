"""Avro codecs on the same records: decode and encode, in turns, one line of JSON with every single time.

Runs in the peers' environment, which has them all. Argument: a JSON file with `records`, `rounds` and
`batch`.
"""

from __future__ import annotations

import io
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import avro.io
import avro.schema
import fastavro
import polars as pl
import pyruhvro

from bench.transform import dataset
from bench.transform.by_record import without_logical_types
from schemas import avro as own_avro
from schemas.codec import Codec
from schemas.fakes import InMemoryRegistry

_HEADER = 5
_SLOW_PART = 20
"""Apache's package gets a twentieth of the records: it is that much slower."""

Job = tuple[Callable[[], Any], int]


def jobs(values: list[bytes], batch: int) -> dict[str, Job]:
    """Name -> what to time, and how many records it does."""
    text = dataset.raw_schema()
    registry = InMemoryRegistry()
    codec = Codec(text, registry)
    schema_id = registry.register("raw", text)
    parts = [values[i : i + batch] for i in range(0, len(values), batch)]
    frames = [codec.decode(part).frame for part in parts]
    payloads = [[value[_HEADER:] for value in part] for part in parts]
    wire = own_avro.parse(text).wire
    return {
        "decode: schemas.codec, to columns": (lambda: [codec.decode(part) for part in parts], len(values)),
        "encode: schemas.codec, from columns": (
            lambda: [codec.encode(frame, schema_id) for frame in frames],
            len(values),
        ),
        "decode: pyruhvro alone, unchecked, to Arrow": (
            lambda: [pl.from_arrow(pyruhvro.deserialize_array(part, wire)) for part in payloads],
            len(values),
        ),
        **_fastavro(values, json.loads(text)),
        **_apache(values[: len(values) // _SLOW_PART], text),
    }


def _fastavro(values: list[bytes], document: dict[str, Any]) -> dict[str, Job]:
    plain = fastavro.parse_schema(without_logical_types(document))
    logical = fastavro.parse_schema(document)
    rows: list[Any] = [
        fastavro.schemaless_reader(io.BytesIO(value[_HEADER:]), plain, None) for value in values
    ]

    def decode(schema: Any) -> list[Any]:
        found = []
        for value in values:
            source = io.BytesIO(value)
            source.seek(_HEADER)
            found.append(fastavro.schemaless_reader(source, schema, None))
        return found

    def encode() -> list[bytes]:
        out, found = io.BytesIO(), []
        for row in rows:
            out.seek(0)
            out.truncate()
            out.write(values[0][:_HEADER])
            fastavro.schemaless_writer(out, plain, row)
            found.append(out.getvalue())
        return found

    return {
        "decode: fastavro, to dicts": (lambda: decode(plain), len(values)),
        "decode: fastavro with logical types, to dicts": (lambda: decode(logical), len(values)),
        "decode: fastavro, to columns": (lambda: pl.DataFrame(decode(plain)), len(values)),
        "encode: fastavro, from dicts": (encode, len(values)),
    }


def _apache(values: list[bytes], text: str) -> dict[str, Job]:
    schema = avro.schema.parse(text)
    reader, writer = avro.io.DatumReader(schema), avro.io.DatumWriter(schema)
    rows = [reader.read(avro.io.BinaryDecoder(io.BytesIO(value[_HEADER:]))) for value in values]

    def decode() -> list[Any]:
        return [reader.read(avro.io.BinaryDecoder(io.BytesIO(value[_HEADER:]))) for value in values]

    def encode() -> list[bytes]:
        found = []
        for row in rows:
            out = io.BytesIO(values[0][:_HEADER])
            out.seek(0, io.SEEK_END)
            writer.write(row, avro.io.BinaryEncoder(out))
            found.append(out.getvalue())
        return found

    return {
        "decode: avro (Apache), to dicts": (decode, len(values)),
        "encode: avro (Apache), from dicts": (encode, len(values)),
    }


def main(config: dict[str, int]) -> None:
    values = [value for chunk in dataset.chunks(config["records"]) for value in chunk.values]
    timed = jobs(values, config["batch"])
    times: dict[str, list[float]] = {name: [] for name in timed}
    for _ in range(config["rounds"]):
        for name, (job, records) in timed.items():
            begun = time.process_time()
            job()
            times[name].append(records / (time.process_time() - begun))
    print(json.dumps(times))


if __name__ == "__main__":
    main(json.loads(Path(sys.argv[1]).read_text()))
