"""Avro's binary encoding to and from Arrow columns, for records of plain fields (`Plain`)."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from ctypes import byref, c_int32, c_int64, c_void_p
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from native.arrays import parts
from native.library import Column, load

KINDS: Final = {
    "boolean": 1,
    "int": 2,
    "long": 2,
    "float": 3,
    "double": 4,
    "string": 5,
    "bytes": 6,
    "map<string>": 7,
    "array<string>": 8,
}
_BOOLEAN, _LONG, _FLOAT, _DOUBLE, _TEXT, _BYTES, _MAP, _ARRAY = range(1, 9)
_VERDICTS = (
    "",
    "the bytes end too early",
    "a number has too many bytes",
    "no branch of the union",
    "no boolean",
    "no UTF-8",
    "a block of impossible size",
    "bytes are left over",
)
_VIEW_BYTES: Final = 16
_MAX_DATA: Final = (1 << 31) - 1
_WIDTHS: Final = {_LONG: np.int64, _FLOAT: np.float32, _DOUBLE: np.float64}
_TYPES: Final = {_LONG: pa.int64(), _FLOAT: pa.float32(), _DOUBLE: pa.float64()}


@dataclass(frozen=True, slots=True)
class Plain:
    """One field: a kind of `KINDS`, and the place of null in its union of two, or -1 where it is no union."""

    name: str
    kind: str
    null_branch: int


class _Field(ctypes.Structure):
    """`field` in avro_decode.c."""

    _fields_ = (
        ("kind", c_int32),
        ("null_branch", c_int32),
        ("values", c_void_p),
        ("valid", c_void_p),
        ("offsets", c_void_p),
        ("keys", c_void_p),
        ("items", c_void_p),
        ("room", c_int64),
        ("children", c_int64),
        ("nulls", c_int64),
    )


class _Given(ctypes.Structure):
    """`given` in avro_encode.c."""

    _fields_ = (
        ("kind", c_int32),
        ("null_branch", c_int32),
        ("width", c_int32),
        ("_pad", c_int32),
        ("values", c_void_p),
        ("valid", c_void_p),
        ("bit", c_int64),
        ("valid_bit", c_int64),
        ("buffers", c_void_p),
        ("offsets", c_void_p),
        ("keys", c_void_p),
        ("items", c_void_p),
        ("key_buffers", c_void_p),
        ("item_buffers", c_void_p),
    )


@dataclass(frozen=True, slots=True)
class Decoded:
    """`table` has a row per good value, `kept` (int64) are their places, `bad` the others' with reasons."""

    table: Any
    kept: NDArray[np.int64]
    bad: list[tuple[int, str]]


def schema_ids(values: Any, limit: int) -> NDArray[np.int64]:
    """The id in Confluent's framing of each value of a LargeBinary array; -1: none, or over `limit` bytes."""
    offsets, data, valid, bit = parts(values)
    ids = np.empty(len(values), np.int64)
    column = Column(offsets.ctypes.data, data.ctypes.data, _at(valid), bit)
    load().ts_avro_ids(byref(column), len(values), limit, ids.ctypes.data)
    return ids


def decode(values: Any, rows: NDArray[np.int64] | None, skip: int, fields: Sequence[Plain]) -> Decoded:
    """Decode the values of a LargeBinary array at `rows` (all where None), each from byte `skip` on."""
    offsets, data, _, _ = parts(values)
    if len(data) > _MAX_DATA:
        raise OverflowError("a batch holds at most 2 GiB of values")
    count = len(values) if rows is None else len(rows)
    kept, bad, verdicts = np.empty(count, np.int64), np.empty(count, np.int64), np.empty(count, np.int32)
    column = Column(offsets.ctypes.data, data.ctypes.data, None, 0)
    room = 2 * count + 64
    while True:
        columns = [_Decoding(field, count, room) for field in fields]
        given = (_Field * len(columns))(*(each.field for each in columns))
        good = load().ts_avro_decode(
            byref(column),
            None if rows is None else rows.ctypes.data,
            count,
            skip,
            given,
            len(columns),
            kept.ctypes.data,
            bad.ctypes.data,
            verdicts.ctypes.data,
        )
        if good >= 0:
            break
        room *= 4
    source = pa.py_buffer(data)
    arrays = [each.array(good, told, source) for each, told in zip(columns, given, strict=True)]
    table = pa.Table.from_arrays(arrays, names=[field.name for field in fields])
    failures = [
        (int(place), f"{_VERDICTS[verdict >> 16]} in {fields[verdict & 0xFFFF].name!r}")
        for place, verdict in zip(bad[: count - good], verdicts[: count - good].tolist(), strict=True)
    ]
    return Decoded(table, kept[:good], failures)


class _Decoding:
    """The buffers of one column that is being decoded."""

    def __init__(self, field: Plain, count: int, room: int) -> None:
        self.kind = KINDS[field.kind]
        nested = self.kind in (_MAP, _ARRAY)
        self.valid = np.zeros((count + 7) // 8 + 1, np.uint8)
        self.values: NDArray[Any] | None = None
        self.offsets = np.zeros(count + 1, np.int32) if nested else None
        self.keys = np.empty(room * _VIEW_BYTES, np.uint8) if self.kind == _MAP else None
        self.items = np.empty(room * _VIEW_BYTES, np.uint8) if nested else None
        if self.kind == _BOOLEAN:
            self.values = np.zeros((count + 7) // 8 + 1, np.uint8)
        elif self.kind in (_TEXT, _BYTES):
            self.values = np.empty(count * _VIEW_BYTES, np.uint8)
        elif not nested:
            self.values = np.empty(count, _WIDTHS[self.kind])
        places = (_at(a) for a in (self.values, self.valid, self.offsets, self.keys, self.items))
        self.field = _Field(self.kind, field.null_branch, *places, room, 0, 0)

    def array(self, count: int, told: _Field, source: Any) -> Any:
        valid = pa.py_buffer(self.valid) if told.nulls else None
        if self.kind in (_TEXT, _BYTES):
            kind = pa.string_view() if self.kind == _TEXT else pa.binary_view()
            return pa.Array.from_buffers(kind, count, [valid, pa.py_buffer(self.values), source], told.nulls)
        if self.offsets is None:
            kind = _TYPES.get(self.kind, pa.bool_())
            return pa.Array.from_buffers(kind, count, [valid, pa.py_buffer(self.values)], told.nulls)
        items = _views(self.items, told.children, source)
        buffers = [valid, pa.py_buffer(self.offsets)]
        if self.kind == _ARRAY:
            kind = pa.list_(pa.field("item", pa.string_view()))
            return pa.Array.from_buffers(kind, count, buffers, told.nulls, children=[items])
        kind = pa.map_(pa.string_view(), pa.string_view())
        keys = _views(self.keys, told.children, source)
        entries = pa.StructArray.from_arrays([keys, items], fields=[kind.key_field, kind.item_field])
        return pa.Array.from_buffers(kind, count, buffers, told.nulls, children=[entries])


def _views(views: NDArray[np.uint8] | None, count: int, source: Any) -> Any:
    return pa.Array.from_buffers(pa.string_view(), count, [None, pa.py_buffer(views), source], 0)


def encode(arrays: Sequence[Any], fields: Sequence[Plain], header: bytes) -> Any:
    """A LargeBinary array of one value per row, each behind `header`. `arrays` align with `fields` and have
    the Arrow types of Polars' newest compatibility level, or narrower integers."""
    count = len(arrays[0]) if arrays else 0
    if count == 0:
        return pa.array([], pa.large_binary())
    encoding = [_Encoding(array, field) for array, field in zip(arrays, fields, strict=True)]
    given = (_Given * len(encoding))(*(each.given for each in encoding))
    library = load()
    room = library.ts_avro_room(given, len(encoding), count, len(header))
    offsets, out = np.empty(count + 1, np.int64), np.empty(max(room, 1), np.uint8)
    library.ts_avro_encode(
        given, len(encoding), count, header, len(header), offsets.ctypes.data, out.ctypes.data
    )
    buffers = [None, pa.py_buffer(offsets), pa.py_buffer(out)]
    return pa.Array.from_buffers(pa.large_binary(), count, buffers, null_count=0)


class _Encoding:
    """One column that is being encoded, and what must stay alive meanwhile."""

    def __init__(self, array: Any, field: Plain) -> None:
        self.kind = KINDS[field.kind]
        self.alive: list[Any] = [array]
        self.given = _Given(self.kind, field.null_branch, 8)
        valid = array.buffers()[0]
        if valid is not None and array.null_count:
            self.given.valid, self.given.valid_bit = valid.address, array.offset
        if self.kind in (_MAP, _ARRAY):
            self._nested(array)
        elif self.kind == _BOOLEAN:
            self.given.values, self.given.bit = array.buffers()[1].address, array.offset
        elif self.kind in (_TEXT, _BYTES):
            self.given.values, self.given.buffers = self._views(array)
        else:
            self.given.width = array.type.bit_width // 8
            self.given.values = _address(array.buffers()[1]) + array.offset * self.given.width

    def _nested(self, array: Any) -> None:
        wide = np.int64 if pa.types.is_large_list(array.type) else np.int32
        size = np.dtype(wide).itemsize
        offsets = np.frombuffer(array.buffers()[1], wide, len(array) + 1, array.offset * size)
        # Keys, items and values are whole, whatever the array's offset is.
        offsets = np.ascontiguousarray(offsets, dtype=np.int32)
        self.alive.append(offsets)
        self.given.offsets = offsets.ctypes.data
        if self.kind == _MAP:
            self.given.keys, self.given.key_buffers = self._views(array.keys)
            self.given.items, self.given.item_buffers = self._views(array.items)
        else:
            self.given.items, self.given.item_buffers = self._views(array.values)

    def _views(self, array: Any) -> tuple[int, int]:
        """Addresses of the views and of the addresses of their buffers."""
        _, views, *data = array.buffers()
        addresses = (c_void_p * max(len(data), 1))(*(_address(each) for each in data))
        self.alive += [array, addresses]
        return _address(views) + array.offset * _VIEW_BYTES, ctypes.addressof(addresses)


def _address(buffer: Any) -> int:
    return int(buffer.address) if buffer is not None else 0


def _at(array: NDArray[Any] | None) -> int | None:
    return None if array is None else int(array.ctypes.data)
