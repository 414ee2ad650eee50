"""What the queries did: Spark's progress reports, and the commits as a reader of the lake sees them."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from gold_writer.lake.commits import appended, commit_file, read_commit
from gold_writer.lake.pipeline import HEARTBEAT_METRIC
from gold_writer.lake.tables import Table

if TYPE_CHECKING:
    from pyspark.sql.streaming import StreamingQuery


@dataclass(frozen=True, slots=True)
class Batch:
    """One report of a query. `rows`: 0 for a trigger without new records. `behind`: offsets not yet read.

    `ended_ms`: when its commit was done; `heartbeat_ms`: when its newest heartbeat was accepted, None where
    it had none. Both in ms since 1970 UTC.
    """

    number: int
    rows: int
    seconds: float
    behind: int
    ended_ms: int
    heartbeat_ms: int | None = None


class QueryReports:
    """Reports of one query, each once."""

    def __init__(self, query: StreamingQuery) -> None:
        self._query = query
        self._seen: str | None = None

    def first_trigger_done(self) -> bool:
        return self._seen is not None or self._query._jsq.lastProgress() is not None

    def new(self) -> list[Batch]:
        # pyspark's own property asks the JVM for each field by itself, some 50 calls; the report is one JSON.
        java = self._query._jsq
        last = java.lastProgress()
        if last is None or last.timestamp() == self._seen:
            return []
        reports = [json.loads(report.json()) for report in java.recentProgress()]
        fresh = [r for r in reports if self._seen is None or r["timestamp"] > self._seen]
        if fresh:
            self._seen = fresh[-1]["timestamp"]
        return [batch_of(report) for report in fresh]


def batch_of(report: dict[str, Any]) -> Batch:
    """Spark's StreamingQueryProgress as JSON -> Batch."""
    took_ms = int(report.get("durationMs", {}).get("triggerExecution", 0))
    beat = report.get("observedMetrics", {}).get(HEARTBEAT_METRIC, {}).get("accepted_ms")
    return Batch(
        number=int(report["batchId"]),
        rows=int(report["numInputRows"]),
        seconds=took_ms / 1000.0,
        ended_ms=_milliseconds(report["timestamp"]) + took_ms,
        heartbeat_ms=None if beat is None else int(beat),
        behind=sum(_behind(source) for source in report.get("sources", ())),
    )


def _behind(source: dict[str, Any]) -> int:
    latest, end = source.get("latestOffset") or {}, source.get("endOffset") or {}
    return sum(
        max(offset - end.get(topic, {}).get(partition, 0), 0)
        for topic, partitions in latest.items()
        for partition, offset in partitions.items()
    )


def failure(query: StreamingQuery) -> str:
    """Why a query ended: the first cause, then the query's own message, which names the offsets."""
    found = query._jsq.exception()
    if not found.isDefined():
        return "without an exception"
    error = found.get()
    first = error
    while first.getCause() is not None:
        first = first.getCause()
    return f"{first.toString()}\n{error.toString()}"


@dataclass(frozen=True, slots=True)
class Commit:
    """Rows that one commit added. Times in ms since 1970 UTC; `visible_ms`: when readers could see it."""

    version: int
    rows: int
    earliest_ms: int
    latest_ms: int
    visible_ms: int

    def arrivals_ms(self, points: int = 50) -> NDArray[np.int64]:
        """Arrival times of the rows, taken as evenly spread between the first and the last of the commit.

        The log holds only minimum and maximum; within one second of a steady stream this is close. At most
        `points` values, however many rows.
        """
        return np.linspace(self.earliest_ms, self.latest_ms, num=max(min(self.rows, points), 1)).astype(
            np.int64
        )


class CommitTail:
    """Follows a table's log from its version at the start: one small file per commit, no JVM, no listing."""

    def __init__(self, path: Path, table: Table, version: int) -> None:
        self._path = path
        self._arrival = table.arrival
        self._next = version + 1

    def new(self) -> list[Commit]:
        found = []
        while (commit := self._read(self._next)) is not None:
            self._next += 1
            if commit.rows:
                found.append(commit)
        return found

    def _read(self, version: int) -> Commit | None:
        actions = read_commit(self._path, version)
        if actions is None:
            return None
        visible_ms = int(commit_file(self._path, version).stat().st_mtime * 1000)
        rows, earliest, latest = 0, [], []
        for add in appended(actions):
            statistics = json.loads(add.get("stats") or "{}")
            rows += int(statistics.get("numRecords", 0))
            if self._arrival in statistics.get("minValues", {}):
                earliest.append(_milliseconds(statistics["minValues"][self._arrival]))
                latest.append(_milliseconds(statistics["maxValues"][self._arrival]))
        return Commit(
            version, rows, min(earliest, default=visible_ms), max(latest, default=visible_ms), visible_ms
        )


def _milliseconds(instant: str) -> int:
    return round(datetime.fromisoformat(instant).timestamp() * 1000)
