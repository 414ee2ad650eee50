"""The port of the changelog: the decisions of a raw partition, read back."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

import polars as pl


@dataclass(frozen=True, slots=True)
class DecidedBatch:
    """What was decided about one batch of raw records; `rows` has the columns of `schemas.decisions`."""

    begin: int
    end: int
    rows: pl.DataFrame


class Changelog(Protocol):
    def read(self, topic_id: str, partition: int, after: int) -> Iterator[DecidedBatch]:
        """Committed batches whose end lies above the raw offset `after`, ascending, up to the end of the
        topic as it is now. Calling it again reads what was committed meanwhile."""
