"""The way of a batch into the warehouse, up to the bytes that COPY takes. Pure.

enriched:    not stored yet -> decode -> coordinates -> no heartbeats -> one row per event, by key -> CSV
quarantine:  not stored yet -> decode -> coordinates -> CSV
dimensions:  not stored yet -> the last record of each version -> decode -> CSV
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import polars as pl

from gold_writer.warehouse.batch import Positions, Rows, Sales, Write
from gold_writer.warehouse.columns import FACT, QUARANTINE, to_csv
from gold_writer.warehouse.dimensions import NoVersion, Table, Versions, stage
from schemas.codec import Codec, Decoded
from schemas.heartbeat import is_heartbeat
from streamkit.columns import take
from streamkit.ports import RecordBatch, TopicPartition

ENRICHED = "sales.enriched.v1"
QUARANTINED = "sales.quarantine.v1"


class CorruptInput(Exception):  # noqa: N818 - reads as what happened
    """A record cannot be decoded. From validated on every row reaches gold, so the stage stops and does not
    skip it: something other than the platform wrote to this topic."""


class WarehousePipeline:
    """Turns polled records into one `Write`."""

    def __init__(
        self,
        *,
        sales: Codec,
        quarantine: Codec,
        enriched: str = ENRICHED,
        quarantined: str = QUARANTINED,
        dimensions: Mapping[str, tuple[Table, Codec]] | None = None,
    ) -> None:
        """`enriched` and `quarantined` are the names of the two topics; `dimensions` gives the table of each
        topic of a dimension."""
        self._dimensions = dict(dimensions or {})
        self._sales = sales
        self._quarantine = quarantine
        self._enriched = enriched
        self._quarantined = quarantined

    def prepare(self, batches: Sequence[RecordBatch], positions: Positions) -> Write:
        """Raises `CorruptInput`, or `RegistryUnavailable` where a schema cannot be fetched now.

        At most one batch per topic, as `Consumer.poll` returns them. Records below the stored position are
        left out: they were stored by a commit whose answer got lost.
        """
        fresh = [
            left
            for batch in batches
            if len(left := without_stored(batch, {p: at.next_offset for p, at in positions.known.items()}))
        ]
        by_topic = {batch.topic: batch for batch in fresh}
        if unknown := by_topic.keys() - {self._enriched, self._quarantined} - self._dimensions.keys():
            raise ValueError(f"no table for {', '.join(sorted(unknown))}")
        enriched, quarantined = by_topic.get(self._enriched), by_topic.get(self._quarantined)
        sales = None if enriched is None else self.stage_sales(enriched)
        return Write(
            moves=positions.moves({tp: at for b in fresh for tp, at in b.next_offsets().items()}),
            sales=sales if sales is not None and sales.count else None,
            quarantine=None if quarantined is None else self.stage_quarantine(quarantined),
            versions=tuple(self.stage_versions(by_topic[t]) for t in self._dimensions if t in by_topic),
        )

    def stage_sales(self, batch: RecordBatch) -> Sales:
        frame = coordinates(self._sales.decode(batch.value), batch, "enriched_partition", "enriched_offset")
        # A heartbeat has come as far as the transaction that moves the position over it: no row is needed.
        frame = latest_revisions(frame.filter(~is_heartbeat()))
        return Sales(to_csv(frame, FACT), len(frame), frame["date_key"].unique().sort().to_list())

    def stage_quarantine(self, batch: RecordBatch) -> Rows:
        frame = coordinates(
            self._quarantine.decode(batch.value), batch, "quarantine_partition", "quarantine_offset"
        )
        return Rows(to_csv(frame, QUARANTINE), len(frame))

    def stage_versions(self, batch: RecordBatch) -> Versions:
        table, codec = self._dimensions[batch.topic]
        try:
            return stage(batch, table, codec)
        except NoVersion as error:
            at = f"{batch.topic}[{batch.partition[error.position]}]@{batch.offset[error.position]}"
            raise CorruptInput(f"{at} is no version of a dimension: {error}") from error


def without_stored(batch: RecordBatch, positions: Mapping[TopicPartition, int]) -> RecordBatch:
    """The records at or after their partition's position; the batch itself where that is all of them."""
    floor = np.zeros(len(batch), dtype=np.int64)
    for tp in batch.next_offsets():
        floor[batch.partition == tp.partition] = positions.get(tp, 0)
    keep = np.flatnonzero(batch.offset >= floor)
    if len(keep) == len(batch):
        return batch
    return RecordBatch(
        topic=batch.topic,
        partition=batch.partition[keep],
        offset=batch.offset[keep],
        timestamp_ms=batch.timestamp_ms[keep],
        key=take(batch.key, keep),
        value=take(batch.value, keep),
        headers=take(batch.headers, keep),
    )


def coordinates(decoded: Decoded, batch: RecordBatch, partition: str, offset: str) -> pl.DataFrame:
    """The decoded rows with where they were read, in two columns of these names."""
    if decoded.bad:
        bad = decoded.bad[0]
        at = f"{batch.topic}[{batch.partition[bad.position]}]@{batch.offset[bad.position]}"
        raise CorruptInput(f"{at} cannot be decoded: {bad.reason}")
    return decoded.frame.with_columns(
        pl.Series(partition, batch.partition[decoded.index], dtype=pl.Int32),
        pl.Series(offset, batch.offset[decoded.index], dtype=pl.Int64),
    )


def latest_revisions(frame: pl.DataFrame) -> pl.DataFrame:
    """In the order of the primary key, one row per event: the highest revision, of equal ones the first read.

    One INSERT ... ON CONFLICT may not touch a row twice.
    """
    key = ["date_key", "event_id"]
    order = [*key, "revision", "enriched_offset"]
    frame = frame.sort(order, descending=[False, False, True, False])
    return frame.unique(subset=key, keep="first", maintain_order=True)
