"""Replayed records: what became of the quarantine items that they mend.

A replay is a raw record like any other, and is decided as any other. Its headers name the item that it mends:
where the event is accepted with this content, now or before, the item is resolved; else a RETRIED record says
of the item why it failed again. The headers are read only where the load id says that it is a replay, so that
other batches do not pay for them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import numpy as np
import polars as pl
from numpy.typing import NDArray

from quality_service.rules import Rules
from schemas.decisions import Outcome
from streamkit.columns import take
from streamkit.headers import REPLAY_ATTEMPT, REPLAY_LOAD, REPLAY_OF, header_column, header_texts
from streamkit.ports import RecordBatch

CONFLICT: Final = "ID_CONFLICT"
_MAX_ITEM_ID: Final = 100

Holds = Callable[[pl.DataFrame], NDArray[np.bool_]]


def of(rows: pl.DataFrame, batch: RecordBatch) -> pl.DataFrame:
    """The rows that mend an item, with `mends` (its id) and `attempts`."""
    rows = rows.filter(pl.col("load_id").str.starts_with(REPLAY_LOAD))
    if rows.is_empty():
        return rows.with_columns(mends=pl.lit(None, pl.String), attempts=pl.lit(None, pl.Int32))
    headers = take(batch.headers, rows["position"].to_numpy())
    attempts = header_texts(header_column(headers, REPLAY_ATTEMPT))
    # Anyone may write a header: what is no id and no number is no replay, and must not stop the stage.
    known = rows.with_columns(
        header_texts(header_column(headers, REPLAY_OF)).alias("mends"),
        attempts.cast(pl.Int32, strict=False).alias("attempts"),
    )
    return known.filter(
        pl.col("mends").str.len_bytes().is_between(1, _MAX_ITEM_ID) & (pl.col("attempts") > 0)
    )


def settled(replayed: pl.DataFrame, holds: Holds) -> tuple[pl.DataFrame, pl.DataFrame]:
    """(those whose item is resolved, those that failed again). `holds`: of rows, whether the store holds the
    event as accepted with their content."""
    accepted = pl.col("outcome").is_in([Outcome.ACCEPTED, Outcome.ACCEPTED_RESOLVING])
    done = replayed.select(accepted).to_series().to_numpy().copy()
    repeats = np.flatnonzero((replayed["outcome"] == Outcome.DUPLICATE).to_numpy())
    if len(repeats):
        done[repeats] = holds(replayed[repeats])
    resolved = pl.Series(done, dtype=pl.Boolean)
    return replayed.filter(resolved), replayed.filter(~resolved)


def failures(failed: pl.DataFrame, rules: Rules) -> pl.DataFrame:
    """Rows that failed again with `reason`, `rules` and `detail`: as duplicates they had none so far."""
    reject = failed["reject"].to_numpy()
    masks: NDArray[np.int64] = np.where(reject == 0, rules.bit(CONFLICT), reject)
    reason, names = rules.rejections(masks)
    return rules.explain(failed.with_columns(reason.alias("reason"), names.alias("rules")))
