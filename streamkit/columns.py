"""Columns of byte strings and of headers that stay columns from the broker to the broker.

Both read as sequences too, so that code which wants a single record needs not to know them.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, TypeVar, overload

import numpy as np
import polars as pl
import pyarrow as pa
from numpy.typing import NDArray

from native.arrays import Parts, parts

T = TypeVar("T")


class BinaryColumn(Sequence["bytes | None"]):
    """An Arrow LargeBinary array (`array`) that reads as a sequence of `bytes | None`."""

    __slots__ = ("array",)

    def __init__(self, array: Any) -> None:
        self.array = array

    @classmethod
    def of(cls, values: Sequence[bytes | None]) -> BinaryColumn:
        """`values` as a column; one that is a column already is taken as it is."""
        if isinstance(values, BinaryColumn):
            return values
        return cls(pa.array(values, type=pa.large_binary()))

    @classmethod
    def of_series(cls, series: pl.Series) -> BinaryColumn:
        """A String (as UTF-8) or Binary series."""
        array = series.to_arrow(compat_level=pl.CompatLevel.oldest())
        return cls(array if pa.types.is_large_binary(array.type) else array.cast(pa.large_binary()))

    @classmethod
    def of_buffers(
        cls, offsets: NDArray[np.int64], data: NDArray[np.uint8], valid: NDArray[np.uint8] | None, nulls: int
    ) -> BinaryColumn:
        """Takes the buffers as they are; `valid` is a bitmap, lowest bit first."""
        buffers = [
            pa.py_buffer(valid) if nulls and valid is not None else None,
            pa.py_buffer(offsets),
            pa.py_buffer(data),
        ]
        return cls(pa.Array.from_buffers(pa.large_binary(), len(offsets) - 1, buffers, null_count=nulls))

    def __len__(self) -> int:
        return len(self.array)

    @overload
    def __getitem__(self, at: int) -> bytes | None: ...

    @overload
    def __getitem__(self, at: slice) -> BinaryColumn: ...

    def __getitem__(self, at: int | slice) -> bytes | BinaryColumn | None:
        if isinstance(at, slice):
            return BinaryColumn(self.array[at])
        value: bytes | None = self.array[int(at)].as_py()
        return value

    def __iter__(self) -> Iterator[bytes | None]:
        return iter(self.array.to_pylist())

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Sequence) and len(self) == len(other) and list(self) == list(other)

    __hash__ = None  # type: ignore[assignment]

    def __arrow_array__(self, type: Any = None) -> Any:
        return self.array if type is None else self.array.cast(type)

    def take(self, rows: NDArray[np.int64]) -> BinaryColumn:
        return BinaryColumn(self.array.take(pa.array(rows)))

    def series(self) -> pl.Series:
        """As Binary."""
        series = pl.from_arrow(self.array)
        assert isinstance(series, pl.Series)
        return series

    def parts(self) -> Parts:
        """See `native.arrays.parts`."""
        return parts(self.array)


class Takes:
    """A sequence that can give some of its rows as a column of its own kind."""

    def take(self, rows: NDArray[np.int64]) -> Any:
        raise NotImplementedError


def take(values: Sequence[T], rows: NDArray[np.int64]) -> Sequence[T]:
    """The values at `rows`, in that order; a column stays a column."""
    if isinstance(values, BinaryColumn | Takes):
        taken: Any = values.take(rows)
        return taken  # type: ignore[no-any-return]
    return [values[i] for i in rows.tolist()]


def binary_series(values: Sequence[bytes | None]) -> pl.Series:
    """As a Binary series."""
    return values.series() if isinstance(values, BinaryColumn) else pl.Series(values, dtype=pl.Binary)
