"""From decoded wire columns to the reader's columns, and from a frame to the columns to encode."""

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import polars as pl

from schemas.avro import REQUIRED, Field, RecordSchema, projection

Misfits = list[tuple[int, str]]
Project = Callable[[pl.DataFrame], tuple[pl.DataFrame, npt.NDArray[np.int64] | None, Misfits]]
"""Frame of wire columns to (the reader's columns, rows kept or None for all, row and reason of the rest)."""

_INT32 = (-(2**31), 2**31 - 1)


class EncodeError(ValueError):
    """A frame that does not fit the schema it is to be encoded with: a defect of the caller."""


def for_writer(writer: RecordSchema, reader: RecordSchema) -> Project:
    """How rows of the writer's wire columns become the reader's; raises ``SchemaNotSupported``."""
    pairs = projection(writer, reader)
    columns = [_column(wanted, given) for wanted, given in pairs]
    checks = [(wanted, given) for wanted, given in pairs if given is not None]

    def project(rows: pl.DataFrame) -> tuple[pl.DataFrame, npt.NDArray[np.int64] | None, Misfits]:
        misfits = [misfit for wanted, given in checks for misfit in _misfits(rows[given.name], wanted, given)]
        if not misfits:
            return rows.select(columns), None, []
        reasons = dict(reversed(misfits))
        fine = np.setdiff1d(np.arange(len(rows), dtype=np.int64), np.fromiter(reasons, dtype=np.int64))
        return rows[fine].select(columns), fine, sorted(reasons.items())

    return project


def _column(wanted: Field, given: Field | None) -> pl.Expr:
    if given is None:
        return _default(wanted).alias(wanted.name)
    column = pl.col(given.name)
    return column.cast(wanted.dtype).alias(wanted.name)


def _default(field: Field) -> pl.Expr:
    dtype = field.dtype
    value = field.default
    if isinstance(value, dict | list):
        return pl.lit(pl.Series([value], dtype=dtype)).first()
    if isinstance(dtype, pl.Datetime):
        return pl.lit(value, dtype=pl.Int64).cast(dtype)
    if isinstance(dtype, pl.Binary) and isinstance(value, str):
        return pl.lit(value.encode("latin-1"), dtype=dtype)
    return pl.lit(value, dtype=dtype)


def _misfits(column: pl.Series, wanted: Field, given: Field) -> Misfits:
    """Rows that the reader's type cannot hold; the usual case costs one look at the column's extremes."""
    found: Misfits = []
    if not wanted.nullable and column.null_count():
        rows = column.is_null().arg_true().to_list()
        found += [(row, f"{wanted.name!r} is null") for row in rows]
    if given.kind == "int" and len(column):
        low, high = column.min(), column.max()
        if low is not None and not (_INT32[0] <= low and high <= _INT32[1]):  # type: ignore[operator]
            rows = column.is_between(*_INT32).not_().arg_true().to_list()
            found += [(row, f"{wanted.name!r} does not fit an int: {column[row]}") for row in rows]
    return found


def to_columns(frame: pl.DataFrame, schema: RecordSchema) -> pl.DataFrame:
    """The schema's columns in its order and types. Raises :class:`EncodeError` naming the column."""
    present = set(frame.columns)
    series = [_encodable(frame, field, field.name in present) for field in schema.fields]
    return pl.DataFrame(series)


def _encodable(frame: pl.DataFrame, field: Field, present: bool) -> pl.Series:
    if not present:
        if field.default is REQUIRED:
            raise EncodeError(f"the frame lacks {field.name!r}, which has no default")
        single = pl.select(_default(field).alias(field.name)).to_series()
        return single.new_from_index(0, len(frame))
    column = frame[field.name]
    try:
        column = column.cast(field.dtype)
    except pl.exceptions.PolarsError as error:
        raise EncodeError(f"{field.name!r} does not fit {field.kind}: {error}") from error
    if column.null_count() and not field.nullable:
        row = column.is_null().arg_max()
        raise EncodeError(f"{field.name!r} is null in row {row}")
    return column
