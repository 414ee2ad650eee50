"""The batch codec: Kafka record values in Confluent's framing to and from Polars frames.

A value is a zero byte, the schema id as 4 bytes big-endian, and the Avro encoding. The way of a batch:
headers -> groups by schema id -> pyruhvro (fastavro where it lacks a type) -> the reader's columns.

One bad record never harms its neighbours. pyruhvro fails a whole batch, so a failed batch is halved until
the bad records stand alone. What a record decodes to does not depend on the batch it came in.
"""

import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final, Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt
import polars as pl
import pyarrow as pa

from schemas import avro, fast, native_avro, slow
from schemas.avro import SchemaNotSupported
from schemas.projection import EncodeError, Project, for_writer, to_columns
from schemas.registry import UnknownSchema

__all__ = ["MAX_VALUE_BYTES", "Bad", "Codec", "Decoded", "EncodeError", "SchemaNotSupported", "SchemaSource"]

HEADER_BYTES: Final = 5
MAGIC: Final = 0
MAX_VALUE_BYTES: Final = 32 << 20
_NO_HEADER: Final = b"\xff" * HEADER_BYTES


@runtime_checkable
class ArrowColumn(Protocol):
    """A sequence that is an Arrow array inside: iterating over it costs more than to turn it into a list."""

    def __arrow_array__(self) -> Any: ...


def _array(values: Sequence[bytes | None]) -> Any:
    """As one LargeBinary array."""
    if isinstance(values, ArrowColumn):
        return values.__arrow_array__()
    return pa.array(values, pa.large_binary())


Decode = Callable[[list[bytes]], tuple[pl.DataFrame, npt.NDArray[np.int64], list[tuple[int, str]]]]
"""Payloads to (frame of wire columns, position of each row, position and reason of each bad one)."""


class SchemaSource(Protocol):
    """What the codec needs of a registry."""

    def by_id(self, schema_id: int) -> str:
        """Schema text; raises ``UnknownSchema`` or ``RegistryUnavailable``."""
        ...


@dataclass(frozen=True, slots=True)
class Bad:
    """A value that cannot be decoded. ``position`` is its place in the input."""

    position: int
    reason: str
    schema_id: int | None


@dataclass(frozen=True, slots=True)
class Decoded:
    """Result of :meth:`Codec.decode`: every input position is in ``index`` or in ``bad``, exactly once.

    ``frame`` has the reader's columns and one row per good value in input order; ``index`` (int64) and
    ``schema_ids`` (int64) hold the input position and the writer's schema id of each row.
    """

    frame: pl.DataFrame
    index: npt.NDArray[np.int64]
    schema_ids: npt.NDArray[np.int64]
    bad: list[Bad]


@dataclass(frozen=True, slots=True)
class _Writer:
    decode: Decode
    project: Project
    fields: native_avro.Fields | None
    """Where the native library can decode it."""


class Codec:
    """Encodes and decodes the values of one topic.

    ``topic_schema`` is the reader's schema and that of everything encoded. ``max_value_bytes`` bounds one
    value: a record of many empty strings takes about 16 times its size in memory.
    """

    def __init__(
        self, topic_schema: str, registry: SchemaSource, *, max_value_bytes: int = MAX_VALUE_BYTES
    ) -> None:
        self.schema = avro.parse(topic_schema)
        self.columns = self.schema.polars
        self._registry = registry
        self._limit = max_value_bytes
        self._writers: dict[int, _Writer | str] = {}
        self._fields = native_avro.fields(self.schema)
        self._empty = pl.DataFrame(schema=self.columns)

    def decode(self, values: Sequence[bytes | None]) -> Decoded:
        """Decode record values, whatever mix of schema ids they have.

        Raises ``RegistryUnavailable`` where a schema id can be neither found nor denied; the caller keeps
        the records and tries again. A bad record never raises.
        """
        if self._fields is not None:
            array = _array(values)
            if array.nbytes <= native_avro.MAX_BYTES:
                return self._decode_array(array)
        if isinstance(values, ArrowColumn):
            values = values.__arrow_array__().to_pylist()
        groups, bad = _group(values, self._limit)
        frames, places, ids = [], [], []
        for schema_id, positions in groups:
            writer = self._writer(schema_id)
            if isinstance(writer, str):
                bad += [Bad(int(position), writer, schema_id) for position in positions]
                continue
            payloads = _payloads(values, positions)
            rows, kept, failed = writer.decode(payloads)
            frame, fine, misfits = writer.project(rows)
            failed += [(int(kept[row]), reason) for row, reason in misfits]
            bad += [Bad(int(positions[place]), reason, schema_id) for place, reason in failed]
            frames.append(frame)
            places.append(positions[kept if fine is None else kept[fine]])
            ids.append(np.full(len(frame), schema_id, dtype=np.int64))
        bad.sort(key=lambda each: each.position)
        return self._gathered(frames, places, ids, bad)

    def _decode_array(self, array: Any) -> Decoded:
        """The same through the native library."""
        frames, places, ids = [], [], []
        groups, bad = _group_array(array, self._limit)
        for schema_id, rows in groups:
            positions = np.arange(len(array), dtype=np.int64) if rows is None else rows
            writer = self._writer(schema_id)
            if isinstance(writer, str):
                bad += [Bad(int(position), writer, schema_id) for position in positions]
                continue
            if writer.fields is None:
                payloads = [value[HEADER_BYTES:] for value in array.take(pa.array(positions)).to_pylist()]
                decoded, kept, failed = writer.decode(payloads)
            else:
                decoded, kept, failed = native_avro.decode(array, rows, HEADER_BYTES, writer.fields)
            frame, fine, misfits = writer.project(decoded)
            failed += [(int(kept[row]), reason) for row, reason in misfits]
            bad += [Bad(int(positions[place]), reason, schema_id) for place, reason in failed]
            frames.append(frame)
            places.append(positions[kept if fine is None else kept[fine]])
            ids.append(np.full(len(frame), schema_id, dtype=np.int64))
        bad.sort(key=lambda each: each.position)
        return self._gathered(frames, places, ids, bad)

    def encode_column(self, frame: pl.DataFrame, schema_id: int) -> Any:
        """:meth:`encode` as one Arrow LargeBinary array."""
        if self._fields is None:
            return pa.array(self.encode(frame, schema_id), pa.large_binary())
        header = struct.pack(">bI", MAGIC, schema_id)
        return native_avro.encode(to_columns(frame, self.schema), self._fields, header)

    def encode(self, frame: pl.DataFrame, schema_id: int) -> list[bytes]:
        """One framed value per row, in order.

        Columns that the schema lacks are left out; a missing one takes its default. Raises
        :class:`EncodeError`, naming the column, where a value does not fit the schema.
        """
        if self._fields is not None:
            encoded: list[bytes] = self.encode_column(frame, schema_id).to_pylist()
            return encoded
        columns = to_columns(frame, self.schema)
        header = struct.pack(">bI", MAGIC, schema_id)
        return (
            fast.encode(columns, self.schema, header)
            if self.schema.fast
            else slow.encode(columns, self.schema, header)
        )

    def _gathered(
        self,
        frames: list[pl.DataFrame],
        places: list[npt.NDArray[np.int64]],
        ids: list[npt.NDArray[np.int64]],
        bad: list[Bad],
    ) -> Decoded:
        if not frames:
            none = np.empty(0, dtype=np.int64)
            return Decoded(self._empty, none, none, bad)
        if len(frames) == 1:
            return Decoded(frames[0], places[0], ids[0], bad)
        index, schema_ids = np.concatenate(places), np.concatenate(ids)
        order = np.argsort(index, kind="stable")
        frame = pl.concat(frames)[order]
        return Decoded(frame, index[order], schema_ids[order], bad)

    def _writer(self, schema_id: int) -> _Writer | str:
        """How to read values of a schema id, or why they cannot be read.

        An unknown id is asked for again each time: it may be registered later.
        """
        if schema_id not in self._writers:
            try:
                text = self._registry.by_id(schema_id)
            except UnknownSchema as error:
                return str(error)
            self._writers[schema_id] = self._resolved(text, schema_id)
        return self._writers[schema_id]

    def _resolved(self, text: str, schema_id: int) -> _Writer | str:
        try:
            writer = avro.parse(text)
            by_columns = writer.fast and self.schema.fast
            decode = fast.decoder(writer) if by_columns else slow.decoder(writer, self.schema)
            fields = native_avro.fields(writer)
            # The slow decoder resolves the schemas itself; the native one gives the writer's columns.
            given = writer if by_columns or fields is not None else self.schema
            return _Writer(decode, for_writer(given, self.schema), fields)
        except SchemaNotSupported as error:
            return f"schema {schema_id} does not fit {self.schema.name}: {error}"


def _group(
    values: Sequence[bytes | None], limit: int
) -> tuple[list[tuple[int, npt.NDArray[np.int64]]], list[Bad]]:
    """Positions by schema id, and the values without a header or over the limit."""
    if not values:
        return [], []
    every = np.arange(len(values), dtype=np.int64)
    uniform = _uniform_id(values, limit)
    if uniform is not None:
        return [(uniform, every)], []
    bad = [Bad(place, reason, None) for place, value in enumerate(values) if (reason := _flaw(value, limit))]
    wrong = {each.position for each in bad}
    heads = b"".join(
        _NO_HEADER if value is None or place in wrong else value[:HEADER_BYTES]
        for place, value in enumerate(values)
    )
    words = np.frombuffer(heads, dtype=np.uint8).reshape(-1, HEADER_BYTES)
    ids = np.ascontiguousarray(words[:, 1:]).view(">u4").ravel().astype(np.int64)
    good = words[:, 0] == MAGIC
    return [(int(each), every[good & (ids == each)]) for each in np.unique(ids[good])], bad


def _group_array(array: Any, limit: int) -> tuple[list[tuple[int, npt.NDArray[np.int64] | None]], list[Bad]]:
    """:func:`_group` of an Arrow array; the positions are None where all values have one schema."""
    if len(array) == 0:
        return [], []
    ids = native_avro.schema_ids(array, limit)
    if ids[0] >= 0 and (ids == ids[0]).all():
        return [(int(ids[0]), None)], []
    flawed = np.flatnonzero(ids < 0)
    bad = [
        Bad(int(place), _flaw(array[int(place)].as_py(), limit) or "the value has no header", None)
        for place in flawed
    ]
    return [(int(each), np.flatnonzero(ids == each)) for each in np.unique(ids[ids >= 0])], bad


def _uniform_id(values: Sequence[bytes | None], limit: int) -> int | None:
    """The schema id that all values share, or None where they differ or one of them is bad."""
    first = values[0]
    if first is None or len(first) <= HEADER_BYTES or first[0] != MAGIC:
        return None
    try:
        heads = b"".join([value[:HEADER_BYTES] for value in values])  # type: ignore[index]
        sizes = list(map(len, values))  # type: ignore[arg-type]
    except TypeError:
        return None
    if heads != first[:HEADER_BYTES] * len(values) or max(sizes) > limit:
        return None
    return int.from_bytes(first[1:HEADER_BYTES], "big")


def _flaw(value: bytes | None, limit: int) -> str | None:
    if value is None:
        return "the record has no value"
    if len(value) < HEADER_BYTES:
        return f"the value has {len(value)} bytes, fewer than the {HEADER_BYTES} of its header"
    if value[0] != MAGIC:
        return f"the first byte is 0x{value[0]:02x}, not the magic byte 0x00"
    if len(value) > limit:
        return f"the value has {len(value)} bytes, over the limit of {limit}"
    return None


def _payloads(values: Sequence[bytes | None], positions: npt.NDArray[np.int64]) -> list[bytes]:
    chosen = values if len(positions) == len(values) else [values[at] for at in positions.tolist()]
    return [value[HEADER_BYTES:] for value in chosen]  # type: ignore[index]
