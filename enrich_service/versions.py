"""The content of a dimension's topic as a frame: read from the beginning, and kept up to date."""

from __future__ import annotations

from collections.abc import Iterable

import polars as pl

from schemas.codec import Codec
from schemas.dimensions import Dimension, surrogate_key
from streamkit.ports import RecordBatch


class CorruptDimension(Exception):  # noqa: N818 - reads as what happened
    """A record of a dimension's topic that is no version: something else than the builder wrote there."""


def latest(batches: Iterable[RecordBatch]) -> tuple[dict[bytes, bytes], list[bytes]]:
    """The last value of each key, and the keys whose last value is a tombstone."""
    values: dict[bytes, bytes | None] = {}
    for batch in batches:
        for place, (key, value) in enumerate(zip(batch.key, batch.value, strict=True)):
            if key is None:
                raise CorruptDimension(f"{_at(batch, place)} has no key")
            values[key] = value
    kept = {key: value for key, value in values.items() if value is not None}
    return kept, [key for key, value in values.items() if value is None]


def applied(
    versions: pl.DataFrame, batches: Iterable[RecordBatch], codec: Codec, dimension: Dimension
) -> pl.DataFrame:
    """`versions` with what the records say: each replaces the version of its key, a tombstone removes it.

    Raises `CorruptDimension`, or `RegistryUnavailable`.
    """
    values, withdrawn = latest(batches)
    decoded = codec.decode(list(values.values()))
    if decoded.bad:
        raise CorruptDimension(f"a record of {dimension.topic} is no version: {decoded.bad[0].reason}")
    try:
        gone = [surrogate_key(dimension, key) for key in (*values, *withdrawn)]
    except ValueError as error:
        raise CorruptDimension(f"{dimension.topic}: {error}") from error
    if len(versions) == 0:
        return decoded.frame
    place = pl.col(dimension.surrogate_key)
    removed = pl.Series(gone, dtype=pl.Int64).implode()
    return pl.concat([versions.filter(~place.is_in(removed)), decoded.frame])


def _at(batch: RecordBatch, place: int) -> str:
    return f"{batch.topic}[{batch.partition[place]}]@{batch.offset[place]}"
