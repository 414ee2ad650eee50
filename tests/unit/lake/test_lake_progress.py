"""Reports of Spark and commits of Delta as figures."""

from __future__ import annotations

import json
import os
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
from deltalake import DeltaTable, write_deltalake

from gold_writer.lake.progress import CommitTail, QueryReports, batch_of
from gold_writer.lake.tables import BRONZE, create

REPORT: dict[str, Any] = {
    "batchId": 4,
    "timestamp": "2026-01-01T00:00:01.000Z",
    "numInputRows": 30,
    "durationMs": {"triggerExecution": 250},
    "sources": [{"endOffset": {"t": {"0": 10, "1": 5}}, "latestOffset": {"t": {"0": 12, "1": 5, "2": 3}}}],
}


def test_a_report_tells_rows_duration_and_what_is_left() -> None:
    batch = batch_of(REPORT)
    assert (batch.number, batch.rows, batch.seconds, batch.behind) == (4, 30, 0.25, 5)


def test_a_report_of_an_idle_trigger_has_no_sources_to_count() -> None:
    sources = [{"latestOffset": None, "endOffset": None}]
    idle = {**REPORT, "batchId": 5, "numInputRows": 0, "durationMs": {}, "sources": sources}
    assert batch_of(idle).behind == 0


def test_a_report_tells_when_its_commit_was_done_and_its_newest_heartbeat_accepted() -> None:
    beat = batch_of({**REPORT, "observedMetrics": {"heartbeat": {"accepted_ms": 1767225600250}}})
    assert (beat.ended_ms, beat.heartbeat_ms) == (1767225601250, 1767225600250)
    assert batch_of({**REPORT, "observedMetrics": {"heartbeat": {"accepted_ms": None}}}).heartbeat_ms is None
    assert batch_of(REPORT).heartbeat_ms is None


class Java:
    """The JVM's side of a query: only what the adapter calls."""

    def __init__(self) -> None:
        self.reports: list[dict[str, Any]] = []

    def lastProgress(self) -> Any:  # noqa: N802
        return _Report(self.reports[-1]) if self.reports else None

    def recentProgress(self) -> list[Any]:  # noqa: N802
        return [_Report(report) for report in self.reports]


class _Report:
    def __init__(self, report: dict[str, Any]) -> None:
        self._report = report

    def timestamp(self) -> str:
        return str(self._report["timestamp"])

    def json(self) -> str:
        return json.dumps(self._report)


class Query:
    def __init__(self) -> None:
        self._jsq = Java()


def test_each_report_is_delivered_once_even_if_several_came_between_two_polls() -> None:
    query = Query()
    reports = QueryReports(query)
    assert not reports.first_trigger_done()
    assert reports.new() == []
    query._jsq.reports += [
        {**REPORT, "batchId": n, "timestamp": f"2026-01-01T00:00:0{n}.000Z"} for n in (1, 2)
    ]
    assert reports.first_trigger_done()
    assert [batch.number for batch in reports.new()] == [1, 2]
    query._jsq.reports.append({**REPORT, "batchId": 3, "timestamp": "2026-01-01T00:00:03.000Z"})
    assert [batch.number for batch in reports.new()] == [3]
    assert reports.new() == []


def test_commits_after_the_start_tell_rows_and_arrival_times(tmp_path: Path) -> None:
    create(BRONZE, tmp_path, "topic")
    path = BRONZE.path(tmp_path)
    arrivals = [datetime(2026, 1, 1, 0, 0, second, tzinfo=UTC) for second in (1, 3)]
    rows = pa.Table.from_pylist(
        [{"kafka_ts": at, "source_system": "s"} for at in arrivals], schema=BRONZE.schema
    )
    write_deltalake(str(path), rows, mode="append")
    tail = CommitTail(path, BRONZE, version=1)
    assert tail.new() == []

    write_deltalake(str(path), rows, mode="append")
    log = path / "_delta_log" / f"{2:020d}.json"
    os.utime(log, (1767225605.5, 1767225605.5))
    (commit,) = tail.new()
    assert (commit.version, commit.rows, commit.visible_ms) == (2, 2, 1767225605500)
    assert commit.arrivals_ms().tolist() == [1767225601000, 1767225603000]
    assert tail.new() == []

    DeltaTable(str(path)).optimize.compact(target_size=1 << 20)
    assert tail.new() == [], "a compaction brings no rows and no latency"
