"""The port of the changelog: the aggregates of one shard, read back."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import polars as pl


class StateError(Exception):
    """The totals of a shard cannot be trusted: the process must not go on from them."""


@dataclass(frozen=True, slots=True)
class Chunk:
    """Consecutive records. `rows` has the columns of SalesAggregate, one row per key; `following` is the
    offset to read on from."""

    keys: Sequence[bytes]
    rows: pl.DataFrame
    following: int


class Changelog(Protocol):
    def read(self, partition: int, offset: int) -> Iterator[Chunk]:
        """Committed records from `offset` on, in order, up to the end of the partition as it is now.
        Raises `StateError` where a record is no aggregate, `BrokerError` where the broker does not answer."""
