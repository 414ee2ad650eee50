"""Later revisions of sales into `gold/fact_sales`: the scheduled MERGE behind the append-only fast stream.

`silver/sales` has every revision, `gold/fact_sales` gets revision 0 by Spark. A run:

1. takes the silver rows of a revision above 0 from where the last run ended (the mark of each partition of
   the enriched topic), of each event the highest;
2. finds the fact files that hold these events, by the range of their business dates first;
3. writes those files anew with the rows replaced where theirs is the lower revision;
4. commits removed files, new files and marks as one version, behind whatever Spark appended meanwhile
   (`replace.py`).

A run that dies before 4 has changed nothing; one after it finds its mark. A revision whose fact is not there
yet waits, and the mark with it. The row keeps the coordinates (`topic_id`, `partition`, `offset`) of the
record that brought the event: up to the highest of them the table is complete, on which `rebuild` and the
ledger rely.

`deltalake`'s own MERGE, like Spark's, reads the whole table and so fails whenever an append comes first, and
here one comes each second. An update of rows that are there already contradicts no append.
"""

from __future__ import annotations

import json
import os
import time
import uuid
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any, Final

import polars as pl
from deltalake import DeltaTable
from deltalake.transaction import AddAction

from gold_writer.lake.tables import FACT, SILVER
from gold_writer.maintenance.replace import files, replace_files

RECORD: Final = ("topic_id", "partition", "offset")
_CHANGED: Final = [name for name in FACT.schema.names if name not in RECORD]


class Revisions:
    """Remembers which silver files it has seen, so that a run without new revisions reads no data."""

    def __init__(self, lake: Path) -> None:
        self._fact = FACT.path(lake)
        self._silver = SILVER.path(lake)
        self._seen: frozenset[str] = frozenset()

    def apply(self) -> int:
        """Bring the fact table up to silver's revisions; how many rows were replaced.

        Raises Replaced where something else rewrote a file meanwhile; the next run does the work.
        """
        if not all(DeltaTable.is_deltatable(str(path)) for path in (self._fact, self._silver)):
            return 0
        sources = _with_revisions(self._silver)
        if sources <= self._seen:
            return 0
        fact = DeltaTable(str(self._fact))
        found = _revisions(self._silver, fact)  # 1
        replaced, waiting = self._replace(fact, found) if found.height else (0, False)
        if not waiting:
            self._seen = sources
        return replaced

    def _replace(self, fact: DeltaTable, found: pl.DataFrame) -> tuple[int, bool]:
        """How many rows were replaced, and whether a revision waits for its fact."""
        latest = found.sort("revision", "offset").unique("event_id", keep="last").lazy()
        holding = _holding(fact, self._fact, found)  # 2
        held = pl.concat(
            [found.select("event_id").clear(), *(f.select("event_id") for f in holding.values())]
        )
        waiting = found.join(held, on="event_id", how="anti")
        marks = _marks(found, waiting)
        adds, replaced, touched = [], 0, []
        for name, frame in holding.items():
            changed, count = merged(frame, latest)
            if count:
                adds.append(_write(self._fact, changed))  # 3
                touched.append(name)
                replaced += count
        if adds or any(fact.transaction_version(name) != at for name, at in marks.items()):
            removed = files(fact).filter(pl.col("path").is_in(touched))
            replace_files(self._fact, removed, adds, marks=marks)  # 4
        return replaced, not waiting.is_empty()


def merged(frame: pl.DataFrame, revisions: pl.LazyFrame) -> tuple[pl.DataFrame, int]:
    """`frame` with the rows of a lower revision replaced, its own coordinates kept; how many were."""
    newer = (
        frame.lazy()
        .select("event_id", *RECORD, old="revision")
        .join(revisions.select(_CHANGED), on="event_id", how="inner")
    )
    rows = newer.filter(pl.col("revision") > pl.col("old")).select(frame.columns).collect()
    if rows.is_empty():
        return frame, 0
    kept = frame.join(rows.select("event_id"), on="event_id", how="anti", maintain_order="left")
    return pl.concat([kept, rows.cast(frame.schema)]), rows.height


def mark_of(topic_id: str, partition: int) -> str:
    """Application id under which the fact table keeps the next offset whose revisions it lacks."""
    return f"tillstream.revisions.{topic_id}.{partition}"


def _with_revisions(silver: Path) -> frozenset[str]:
    """Silver's files that hold a revision above 0, by the statistics in the log."""
    live = files(DeltaTable(str(silver)))
    if "max.revision" not in live.columns:
        return frozenset()
    return frozenset(live.filter(pl.col("max.revision") > 0)["path"].to_list())


def _revisions(silver: Path, fact: DeltaTable) -> pl.DataFrame:
    """Silver's rows of later revisions behind the marks, as rows of the fact table."""
    rows = pl.scan_delta(str(silver)).filter(pl.col("revision") > 0).select(FACT.schema.names)
    coordinates = rows.select("topic_id", "partition").unique().collect()
    ahead = pl.lit(value=False)
    for topic_id, partition in coordinates.iter_rows():
        begin = fact.transaction_version(mark_of(topic_id, partition)) or 0
        here = (pl.col("topic_id") == topic_id) & (pl.col("partition") == partition)
        ahead = ahead | (here & (pl.col("offset") >= begin))
    return rows.filter(ahead).collect()


def _holding(fact: DeltaTable, path: Path, found: pl.DataFrame) -> dict[str, pl.DataFrame]:
    """File name -> its rows, of the fact files that hold any of the events. A sale never changes its day."""
    days = (found["date_key"].min(), found["date_key"].max())
    live = files(fact)
    if {"min.date_key", "max.date_key"} <= set(live.columns):
        outside = (pl.col("max.date_key") < days[0]) | (pl.col("min.date_key") > days[1])
        live = live.filter(outside.fill_null(value=False).not_())
    wanted = found["event_id"].unique().implode()
    holding = {}
    for name in live["path"].to_list():
        rows = pl.scan_parquet(path / name)
        if rows.select(pl.col("event_id").is_in(wanted).any()).collect().item():
            holding[name] = rows.collect()
    return holding


def _marks(found: pl.DataFrame, waiting: pl.DataFrame) -> Mapping[str, int]:
    """Partition by partition: behind the last revision, or at the first one whose fact is not there yet."""
    key = ["topic_id", "partition"]
    ends = found.group_by(key).agg(end=pl.col("offset").max() + 1)
    firsts = waiting.group_by(key).agg(first=pl.col("offset").min())
    marks = ends.join(firsts, on=key, how="left").select(*key, at=pl.coalesce("first", "end"))
    return {mark_of(topic_id, partition): at for topic_id, partition, at in marks.iter_rows()}


def _write(path: Path, frame: pl.DataFrame) -> AddAction:
    name = f"part-{uuid.uuid4()}-revised.zstd.parquet"
    file = path / name
    frame.write_parquet(file, compression="zstd", statistics=True)
    return AddAction(
        path=name,
        size=os.path.getsize(file),
        partition_values={},
        modification_time=time.time_ns() // 1_000_000,
        data_change=True,
        stats=json.dumps(statistics(frame)),
    )


def statistics(frame: pl.DataFrame) -> dict[str, Any]:
    """Delta's statistics of a file, for the columns that the table keeps them of."""
    columns = [name for name in FACT.statistics if name in frame.columns]
    least, most = (
        frame.select(getattr(pl.col(columns), side)()).row(0, named=True) for side in ("min", "max")
    )
    return {
        "numRecords": frame.height,
        "minValues": {name: _plain(value, up=False) for name, value in least.items() if value is not None},
        "maxValues": {name: _plain(value, up=True) for name, value in most.items() if value is not None},
        "nullCount": {name: frame[name].null_count() for name in columns},
    }


def _plain(value: Any, *, up: bool) -> Any:
    """As the protocol has it: times in milliseconds, which must not cut off what lies within the last one."""
    if not isinstance(value, datetime):
        return value
    micros = value.microsecond
    millis = -(-micros // 1000) if up else micros // 1000
    whole = value.replace(microsecond=0).timestamp() * 1000 + millis
    return (
        datetime.fromtimestamp(whole / 1000, tz=value.tzinfo)
        .isoformat(timespec="milliseconds")
        .replace("+00:00", "Z")
    )
