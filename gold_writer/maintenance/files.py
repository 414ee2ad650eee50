"""Work on a table's files by `deltalake`, in this process and without a JVM: compaction, Z-order, VACUUM,
retention.

The table's writer, Spark, appends meanwhile. Both commit optimistically: a version exists once (a hard link,
see LinkingLogStore, and deltalake's put-if-absent), and the later one checks what the other did and takes the
next version. Appends remove nothing and read nothing, so neither ever has to be given up. Compaction and
Z-order carry `dataChange: false`: who follows the table by its commits sees no new rows. Two of these jobs at
once would undo each other's work, so all of them run one after another, on one thread.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import polars as pl
from deltalake import BloomFilterProperties, ColumnProperties, DeltaTable, WriterProperties

from gold_writer.maintenance.replace import HOOKS, files
from gold_writer.maintenance.upkeep import Upkeep

_BLOOM_FPP: Final = 0.01
_MOST_DISTINCT: Final = 1 << 20
"""Rows of a row group at most, so also its distinct values."""


@dataclass(frozen=True, slots=True)
class Rewritten:
    """Files and bytes that went in and came out."""

    files_in: int = 0
    files_out: int = 0
    bytes_in: int = 0
    bytes_out: int = 0


def compact(path: Path, upkeep: Upkeep, target_bytes: int, min_files: int) -> Rewritten:
    """Make files of about `target_bytes` from smaller ones; larger ones are left alone.

    Nothing is done while no partition of the table has `min_files` files below half of the target: what is
    nearly there already would be rewritten each time for the sake of a few rows.
    """
    table = DeltaTable(str(path))
    small = files(table).filter(pl.col("size_bytes") < target_bytes // 2)
    partitions = [name for name in small.columns if name.startswith("partition.")]
    crowds = small.group_by(partitions).len()["len"].to_list() if partitions else [small.height]
    if max(crowds, default=0) < min_files:
        return Rewritten()
    answer = table.optimize.compact(
        target_size=target_bytes,
        max_concurrent_tasks=1,
        writer_properties=writer(upkeep, small),
        post_commithook_properties=HOOKS,
    )
    return _rewritten(answer)


def z_order(path: Path, upkeep: Upkeep, target_bytes: int, memory_bytes: int) -> Rewritten:
    """Rewrite the whole table so that rows near each other in `upkeep.z_order` share files."""
    table = DeltaTable(str(path))
    present = files(table)
    if present.height == 0 or not upkeep.z_order:
        return Rewritten()
    answer = table.optimize.z_order(
        list(upkeep.z_order),
        target_size=target_bytes,
        max_concurrent_tasks=1,
        max_spill_size=memory_bytes,
        writer_properties=writer(upkeep, present),
        post_commithook_properties=HOOKS,
    )
    return _rewritten(answer)


def vacuum(path: Path, hours: int, *, full: bool = False) -> int:
    """Delete files that no version younger than `hours` refers to; how many. Time travel ends there.

    `full` lists the folder and so finds files of writes that were never committed too, once they are as old.
    """
    gone = DeltaTable(str(path)).vacuum(
        retention_hours=hours,
        dry_run=False,
        # The property says a week; the setting is the operator's own word.
        enforce_retention_duration=False,
        full=full,
        post_commithook_properties=HOOKS,
    )
    return len(gone)


def expire(path: Path, upkeep: Upkeep, before: datetime) -> int:
    """Remove the rows that are older than `before`; how many.

    Nothing is done until a whole file is: files that hold newer rows too would be rewritten each time.
    """
    table = DeltaTable(str(path))
    latest = f"max.{upkeep.aged_by}"
    present = files(table)
    if latest not in present.columns or present.filter(pl.col(latest) < before).is_empty():
        return 0
    instant = (
        f"arrow_cast('{before.astimezone(UTC):%Y-%m-%dT%H:%M:%S}Z', 'Timestamp(Microsecond, Some(\"UTC\"))')"
    )
    predicate = f"{upkeep.aged_by} < {instant}"
    answer = table.delete(
        predicate, writer_properties=writer(upkeep, present), post_commithook_properties=HOOKS
    )
    return int(answer["num_deleted_rows"] or 0)


def writer(upkeep: Upkeep, present: pl.DataFrame) -> WriterProperties:
    """Parquet with Bloom filters, sized for the rows that are there."""
    distinct = min(max(int(present["num_records"].sum() or 0), 1000), _MOST_DISTINCT)
    bloom = ColumnProperties(
        bloom_filter_properties=BloomFilterProperties(
            set_bloom_filter_enabled=True, fpp=_BLOOM_FPP, ndv=distinct
        )
    )
    return WriterProperties(
        compression="ZSTD",
        compression_level=3,
        max_row_group_size=_MOST_DISTINCT,
        column_properties=dict.fromkeys(upkeep.bloom, bloom),
    )


def _rewritten(answer: dict[str, Any]) -> Rewritten:
    def total(side: str) -> int:
        found = answer[side]
        return int((json.loads(found) if isinstance(found, str) else found)["totalSize"])

    if not answer["numFilesAdded"] and not answer["numFilesRemoved"]:
        return Rewritten()
    return Rewritten(
        files_in=int(answer["numFilesRemoved"]),
        files_out=int(answer["numFilesAdded"]),
        bytes_in=total("filesRemoved"),
        bytes_out=total("filesAdded"),
    )
