"""Versions of a dimension as each store has them, in one form, and what differs. Pure."""

from __future__ import annotations

from typing import Any, Final

import polars as pl

_MICROS: Final = 1_000_000
_EXAMPLES: Final = 5


def canonical(frame: pl.DataFrame, columns: pl.Schema) -> pl.DataFrame:
    """The topic's `columns`: times in microseconds of UTC without a zone, prices in micros."""
    frame = frame.with_columns(
        pl.col(name).dt.convert_time_zone("UTC").dt.replace_time_zone(None)
        for name, kind in frame.schema.items()
        if isinstance(kind, pl.Datetime) and kind.time_zone is not None
    )
    if "list_price" in frame.columns:
        micros = (pl.col("list_price").cast(pl.Decimal(38, 6)) * _MICROS).cast(pl.Int64)
        frame = frame.with_columns(list_price_micros=micros)
    return frame.select(pl.col(name).cast(kind) for name, kind in columns.items())


def differences(stores: dict[str, pl.DataFrame], key: str) -> dict[str, Any]:
    """Of each store against the first: rows missing, rows too many, and rows with other values.

    The frames have the same columns; `key` is that of the surrogate key.
    """
    (first, expected), *others = stores.items()
    report: dict[str, Any] = {
        "versions": {name: frame.height for name, frame in stores.items()},
        "differing": {},
    }
    for name, frame in others:
        missing = expected.join(frame, on=key, how="anti")[key]
        extra = frame.join(expected, on=key, how="anti")[key]
        beside = expected.join(frame, on=key, how="inner", suffix="_there")
        others_values = [c for c in expected.columns if c != key]
        wrong = beside.filter(
            pl.any_horizontal(pl.col(c).ne_missing(pl.col(f"{c}_there")) for c in others_values)
        )[key]
        report["differing"][name] = {
            "against": first,
            "missing": missing.len(),
            "extra": extra.len(),
            "other_values": wrong.len(),
            "examples": [*missing.head(_EXAMPLES), *extra.head(_EXAMPLES), *wrong.head(_EXAMPLES)],
        }
    report["equal"] = all(
        not (found["missing"] or found["extra"] or found["other_values"])
        for found in report["differing"].values()
    )
    return report
