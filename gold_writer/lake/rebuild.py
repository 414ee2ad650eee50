"""`rebuild`: new checkpoints that go on after the highest offset that each table holds.

A query's batches cover each partition in order and are written whole or not at all, so everything up to the
highest offset in the table is in the table. The new query has a new id; Delta takes its batches from 0 on.
"""

from __future__ import annotations

import logging
import shutil
from pathlib import Path

import polars as pl
from deltalake import DeltaTable

from gold_writer.lake.guard import NONE, Refused, Resume
from gold_writer.lake.tables import TOPIC_ID_PROPERTY, Table

_log = logging.getLogger(__name__)


def next_offsets(path: Path, topic_id: str, partitions: int) -> dict[int, int]:
    """Partition -> the offset after the highest one in the table, 0 where it has none."""
    kept = (
        pl.scan_delta(str(path))
        .filter(pl.col("topic_id") == topic_id)
        .group_by("partition")
        .agg(pl.col("offset").max())
        .collect()
    )
    found = dict(kept.iter_rows())
    return {partition: found.get(partition, NONE) + 1 for partition in range(partitions)}


def rebuild(table: Table, lake: Path, checkpoint: Path, topic_id: str, partitions: int) -> dict[int, int]:
    """Replace the table's checkpoint; the next start goes on from the offsets returned.

    Raises Refused where the table was written from another topic: its rows and those of the new topic could
    be the same sales.
    """
    path = table.path(lake)
    delta = DeltaTable(str(path))
    kept = delta.metadata().configuration.get(TOPIC_ID_PROPERTY)
    if kept != topic_id:
        raise Refused(
            f"{table.name} was written from topic id {kept}, and the topic now has the id {topic_id}: move "
            f"the folder {path} away to write it anew from the topic's beginning"
        )
    offsets = next_offsets(path, topic_id, partitions)
    if checkpoint.exists():
        shutil.rmtree(checkpoint)
    checkpoint.mkdir(parents=True)
    Resume(topic_id, delta.version(), offsets).write(checkpoint)
    _log.info("checkpoint replaced", extra={"table": table.name, "offsets": offsets})
    return offsets
