"""Replays: mended items of quarantine come in by the door that every sale comes in by.

A line of the body is `{"item_id", "attempt", "sale"}`. The sale is read as any other; what differs is that
its record names the item that it mends, so that quality can resolve that item or say that it failed again,
and that a sale which cannot be read opens no second item: the first one keeps the original bytes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

import orjson
import polars as pl

from ingest_service import records
from ingest_service.records import Encoder, Origin
from streamkit.headers import REPLAY_ATTEMPT, REPLAY_OF
from streamkit.ports import OutputBatch

RETRIED: Final = "RETRIED"
_MAX_ITEM_ID: Final = 100
_MAX_ATTEMPT: Final = 1_000_000


class BadReplay(ValueError):  # noqa: N818 - an answer, not a fault
    """A line that is no replay; `index` counts from 0."""

    def __init__(self, index: int, why: str) -> None:
        super().__init__(f"line {index + 1}: {why}")
        self.index = index


@dataclass(frozen=True, slots=True)
class Replays:
    """`items[i]` is the sale (JSON) that mends the item `item_id[i]`; `attempt[i]` counts from 1."""

    items: pl.Series
    item_id: Sequence[str]
    attempt: Sequence[int]

    def of(self, ordinals: pl.Series) -> pl.DataFrame:
        """`item_id` and `attempts` of sales by their ordinals, which count from 1."""
        mended = pl.DataFrame(
            {"item_id": self.item_id, "attempts": self.attempt},
            schema={"item_id": pl.String, "attempts": pl.Int32},
        )
        return mended[(ordinals - 1).to_numpy()]


def read(lines: pl.Series) -> Replays:
    """From the lines of an NDJSON body. Raises `BadReplay`."""
    read_lines = [_line(index, line) for index, line in enumerate(lines)]
    ids, attempts, sales = zip(*read_lines, strict=True) if read_lines else ((), (), ())
    return Replays(pl.Series(sales, dtype=pl.Binary), ids, attempts)


def sales(
    frame: pl.DataFrame, origin: Origin, encoder: Encoder, now_ms: int, replays: Replays
) -> OutputBatch:
    """As `records.sales`, each record with the item that it mends."""
    batch = records.sales(frame, origin, encoder, now_ms)
    headers = [
        [*own, (REPLAY_OF, item.encode()), (REPLAY_ATTEMPT, b"%d" % attempt)]
        for own, (item, attempt) in zip(
            batch.headers or [], replays.of(frame["ordinal"]).iter_rows(), strict=True
        )
    ]
    return replace(batch, headers=headers)


def failed(
    frame: pl.DataFrame, origin: Origin, encoder: Encoder, now_ms: int, replays: Replays
) -> OutputBatch:
    """`frame` has the columns of `model.REFUSED`: each says of its item that it cannot be read still."""
    mended = replays.of(frame["ordinal"])
    return records.quarantined(
        frame.with_columns(mended.get_columns()), origin, encoder, now_ms, state=RETRIED
    )


def _line(index: int, line: bytes) -> tuple[str, int, bytes]:
    try:
        document = orjson.loads(line)
    except orjson.JSONDecodeError as error:
        raise BadReplay(index, f"not JSON: {error}") from error
    if not isinstance(document, dict) or document.keys() != {"item_id", "attempt", "sale"}:
        raise BadReplay(index, 'a replay is {"item_id": ..., "attempt": ..., "sale": {...}}')
    item_id, attempt, sale = document["item_id"], document["attempt"], document["sale"]
    if not isinstance(item_id, str) or not 0 < len(item_id) <= _MAX_ITEM_ID:
        raise BadReplay(index, f"item_id is a text of up to {_MAX_ITEM_ID} characters")
    if type(attempt) is not int or not 0 < attempt <= _MAX_ATTEMPT:
        raise BadReplay(index, f"attempt is a number from 1 to {_MAX_ATTEMPT}")
    if not isinstance(sale, dict):
        raise BadReplay(index, "sale is an object, as it is posted to /v1/events/sales")
    return item_id, attempt, orjson.dumps(sale)
