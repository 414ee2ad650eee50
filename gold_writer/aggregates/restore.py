"""Bring the totals of a shard to the offset that its group has committed.

Every record says up to which input offset it counts, and the shard's total, the last record of each batch,
lies last in its partition, where compaction never removes it. So the topic tells how far its totals reach.

Protocol, for a shard that arrives with committed input offset C (None: nothing committed yet):

1. Read the committed records of the shard's partition from the beginning to the end; the last value of each
   key counts. They reach R, the `input_offset` of the last total.
2. R = C: done. Totals and offsets were committed together, so nothing is missing and nothing counted twice.
3. R below C, or no total where there is a C: read on for a while. The broker marks a committed transaction in
   the offsets topic and in this one, one after the other, and one that is still open holds readers back. If
   it stays so, totals were lost: refuse.
4. R above C: the group's offsets were set back or lost. To count those records again would double them:
   refuse.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Final, Protocol

import polars as pl

from gold_writer.aggregates.changelog import Changelog, Chunk, StateError
from gold_writer.aggregates.totals import Rows, from_records
from schemas.aggregates import TOTAL
from streamkit.clock import Clock

_WAIT_S: Final = 30.0
_AGAIN_S: Final = 0.05

_log = logging.getLogger(__name__)

REMEDY: Final = (
    "The topic and the group's offsets belong together. To count anew, stop this process, delete the "
    "aggregates topic and this group's offsets, and start again: the enriched topic is kept for ever."
)


class Totals(Protocol):
    """What is restored: `state.Shard`."""

    def __len__(self) -> int: ...

    def put(self, keys: Sequence[bytes], totals: Rows) -> None: ...


def restore(
    totals: Totals, changelog: Changelog, *, partition: int, committed: int | None, clock: Clock
) -> None:
    """Raises `StateError` where totals and offsets do not belong together."""
    began = clock.monotonic_s()
    offset, reached = 0, None
    while True:
        for chunk in changelog.read(partition, offset):
            _check_shard(chunk, partition)
            totals.put(chunk.keys, from_records(chunk.rows))
            offset, reached = chunk.following, _reached(chunk, reached)
        if reached == committed:
            break
        if reached is not None and (committed is None or reached > committed):
            raise StateError(
                f"shard {partition} has totals up to input offset {reached}, but its group has committed "
                f"{committed}: the group's offsets were moved back or lost. {REMEDY}"
            )
        if clock.monotonic_s() - began > _WAIT_S:
            raise StateError(
                f"the group committed input offset {committed} of shard {partition}, but its totals reach "
                f"{reached}: totals were lost. {REMEDY}"
            )
        clock.sleep(_AGAIN_S)
    _log.info(
        "restored totals",
        extra={
            "shard": partition,
            "windows": len(totals),
            "input_offset": reached,
            "seconds": round(clock.monotonic_s() - began, 3),
        },
    )


def _reached(chunk: Chunk, before: int | None) -> int | None:
    ends = chunk.rows.filter(pl.col("grain") == TOTAL)["input_offset"]
    return before if ends.is_empty() else int(ends[-1])


def _check_shard(chunk: Chunk, partition: int) -> None:
    if not (chunk.rows["shard"] == partition).all():
        raise StateError(
            f"partition {partition} of the aggregates topic holds totals of another shard: "
            "something other than this process writes there"
        )
