"""Headers as they come from the native client: packed, and passed on without a Python object."""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from ctypes import byref
from typing import overload

import numpy as np
from numpy.typing import NDArray

from native.library import Column, load
from streamkit.columns import BinaryColumn, Takes
from streamkit.ports import Headers

_COUNT = struct.Struct("<I")
_SIZES = struct.Struct("<Ii")
_NULL = -1
# What is no UTF-8 in a name comes back as the same bytes.
_ERRORS = "surrogateescape"


class PackedHeaders(Sequence[Headers], Takes):
    """One row per record; `rows` (int64) picks rows of `column`, all of them in order where it is None.

    Packed as `native/src/headers.c` says.
    """

    __slots__ = ("column", "rows")

    def __init__(self, column: BinaryColumn, rows: NDArray[np.int64] | None = None) -> None:
        self.column = column
        self.rows = rows

    @classmethod
    def of(cls, headers: Sequence[Headers]) -> PackedHeaders:
        if isinstance(headers, PackedHeaders):
            return headers
        return cls(BinaryColumn.of(list(map(pack, headers))))

    def __len__(self) -> int:
        return len(self.column) if self.rows is None else len(self.rows)

    @overload
    def __getitem__(self, at: int) -> Headers: ...

    @overload
    def __getitem__(self, at: slice) -> PackedHeaders: ...

    def __getitem__(self, at: int | slice) -> Headers | PackedHeaders:
        if isinstance(at, slice):
            return self.take(np.arange(len(self), dtype=np.int64)[at])
        return unpack(self.column[int(at if self.rows is None else self.rows[at])])

    def __iter__(self) -> Iterator[Headers]:
        return map(unpack, self.column if self.rows is None else self.column.take(self.rows))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Sequence) and list(map(list, self)) == list(map(list, other))

    __hash__ = None  # type: ignore[assignment]

    def take(self, rows: NDArray[np.int64]) -> PackedHeaders:
        picked = np.ascontiguousarray(rows, dtype=np.int64)
        return PackedHeaders(self.column, picked if self.rows is None else self.rows[picked])

    def values(self, name: str) -> BinaryColumn:
        """The value of each record's first header of that name; null where it is missing or null."""
        _, data, start, length, total = self._found(name)
        count = len(self)
        offsets, out = np.empty(count + 1, np.int64), np.empty(max(total, 1), np.uint8)
        valid = np.zeros((count + 7) // 8, np.uint8)
        nulls = load().ts_slices(
            data.ctypes.data,
            start.ctypes.data,
            length.ctypes.data,
            count,
            offsets.ctypes.data,
            out.ctypes.data,
            valid.ctypes.data,
        )
        return BinaryColumn.of_buffers(offsets, out, valid, nulls)

    def integers(self, name: str, limit: int, otherwise: NDArray[np.int64]) -> NDArray[np.int64]:
        """The same as integers: those of 1 to 15 digits below `limit`; `otherwise` for all else."""
        _, data, start, length, _ = self._found(name)
        other = np.ascontiguousarray(otherwise, dtype=np.int64)
        found = np.empty(len(self), np.int64)
        load().ts_slices_as_integers(
            data.ctypes.data,
            start.ctypes.data,
            length.ctypes.data,
            len(self),
            limit,
            other.ctypes.data,
            found.ctypes.data,
        )
        return found

    def _found(
        self, name: str
    ) -> tuple[NDArray[np.int64], NDArray[np.uint8], NDArray[np.int64], NDArray[np.int64], int]:
        offsets, data, _, _ = self.column.parts()
        start, length = np.empty(len(self), np.int64), np.empty(len(self), np.int64)
        wanted = name.encode(errors=_ERRORS)
        total = load().ts_header_find(
            byref(Column(offsets.ctypes.data, data.ctypes.data, None, 0)),
            None if self.rows is None else self.rows.ctypes.data,
            len(self),
            wanted,
            len(wanted),
            start.ctypes.data,
            length.ctypes.data,
        )
        if total < 0:
            raise ValueError(f"row {-1 - total} is no packed headers")
        return offsets, data, start, length, total


def pack(headers: Headers) -> bytes:
    parts = [_COUNT.pack(len(headers))]
    for name, value in headers:
        encoded = name.encode(errors=_ERRORS)
        parts += [_SIZES.pack(len(encoded), _NULL if value is None else len(value)), encoded, value or b""]
    return b"".join(parts)


def unpack(packed: bytes | None) -> Headers:
    """Raises `ValueError` where the bytes are no packed headers."""
    try:
        (count,) = _COUNT.unpack_from(packed or b"")
        at, headers = _COUNT.size, []
        for _ in range(count):
            name_size, value_size = _SIZES.unpack_from(packed or b"", at)
            at += _SIZES.size
            end = at + name_size + max(value_size, 0)
            whole = (packed or b"")[at:end]
            if len(whole) != end - at:
                raise ValueError("headers are cut short")
            value = None if value_size == _NULL else whole[name_size:]
            headers.append((whole[:name_size].decode(errors=_ERRORS), value))
            at = end
    except struct.error as error:
        raise ValueError(f"no packed headers: {error}") from error
    return headers
