"""Bring the id store of a partition to the offset that its group has committed.

Protocol, for a partition that arrives with committed offset C (None: nothing committed yet):

1. The last local batch began at a committed offset. C below that: the group's offsets were set back or lost.
   Refuse: to decide those records again would accept them twice.
2. Apply the changelog from where the last local batch began. That repeats the batch, which is harmless where
   it was committed, and right where its attempt failed and another instance decided the same records.
3. The changelog must reach C exactly. Short of it, wait: the commit marks the offsets topic and the
   decisions topic one after the other. Beyond it, refuse as in 1.

Restored and original state are the same by (state, hash, offset); what an entry had replaced is kept only
for the last batch written here, the only one that can still turn out to be aborted.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from typing import Final

import numpy as np
import polars as pl

from quality_service.changelog import Changelog, DecidedBatch
from quality_service.decide import Candidates, effective, writes
from quality_service.entries import event_keys, from_hex
from quality_service.store import IdStore, Progress, StoreError
from schemas.decisions import Outcome
from streamkit.clock import Clock
from streamkit.crashpoints import crash_point

NOTHING_COMMITTED: Final = -1
_CHUNK_ROWS: Final = 50_000
_WAIT_S: Final = 30.0

_log = logging.getLogger(__name__)


class OffsetsMovedBack(StoreError):  # noqa: N818 - reads as what happened
    """The group would decide records again that were decided already."""


def check_progress(progress: Progress | None, committed: int) -> None:
    """Step 1. Raises `OffsetsMovedBack`."""
    if progress is None or committed >= progress.begin:
        return
    raise OffsetsMovedBack(
        f"the group's committed offset is {_name(committed)}, but the last batch of the id store began at "
        f"{progress.begin}. Records between would be decided twice. If the offsets "
        f"were moved by hand or expired, set them to {progress.next} for this partition; if the raw records "
        "are to be decided afresh, they need a new topic."
    )


def restore(
    store: IdStore, changelog: Changelog, *, topic_id: str, partition: int, committed: int, clock: Clock
) -> int:
    """Bring `store` to `committed`; returns the number of decisions applied.

    Raises `OffsetsMovedBack`, or `StoreError` where the changelog does not reach the committed offset.
    """
    progress = store.progress()
    check_progress(progress, committed)
    reached, applied = progress.begin if progress else NOTHING_COMMITTED, 0
    deadline = clock.monotonic_s() + _WAIT_S
    while True:
        for chunk in _chunks(changelog.read(topic_id, partition, reached)):
            if chunk[-1].end > committed:
                raise OffsetsMovedBack(
                    f"the group's committed offset is {_name(committed)}, but decisions are committed up to "
                    f"{chunk[-1].end}. If this process stood still meanwhile, another took the partition "
                    "over, and the next start goes on. Otherwise the group's offsets were moved back or "
                    "lost: set them to the end of the decisions for this partition."
                )
            applied += _apply(store, chunk)
            crash_point("restore-after-chunk")
            reached = chunk[-1].end
        if reached >= committed:
            break
        if clock.monotonic_s() > deadline:
            raise StoreError(
                f"the group committed {committed} in partition {partition}, but its decisions end at "
                f"{_name(reached)}; the decisions topic has lost records."
            )
        clock.sleep(0.1)
    if applied:
        _log.info(
            "restored id store", extra={"partition": partition, "decisions": applied, "offset": reached}
        )
    return applied


def _chunks(batches: Iterator[DecidedBatch]) -> Iterator[list[DecidedBatch]]:
    """Batches together, so that a long restore does not flush to disk for each of them."""
    chunk: list[DecidedBatch] = []
    rows = 0
    for batch in batches:
        chunk.append(batch)
        rows += batch.rows.height
        if rows >= _CHUNK_ROWS:
            yield chunk
            chunk, rows = [], 0
    if chunk:
        yield chunk


def _apply(store: IdStore, batches: Sequence[DecidedBatch]) -> int:
    rows = pl.concat([batch.rows for batch in batches]).filter(pl.col("outcome") != Outcome.REROUTED)
    candidates = Candidates.of(
        event_keys(rows["event_id"]), from_hex(rows["content_hash"]), rows["offset"].to_numpy()
    )
    remembered = effective(store.look_up(candidates.keys()), candidates.first_offset())
    changes = writes(candidates, remembered, rows["outcome"].to_numpy().astype(np.uint8))
    end = batches[-1].end
    store.apply(changes, Progress(end, end))
    return rows.height


def _name(offset: int) -> str:
    return "none" if offset == NOTHING_COMMITTED else str(offset)
