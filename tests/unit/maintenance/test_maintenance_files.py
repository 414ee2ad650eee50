"""Compaction, Z-order, VACUUM and retention on real Delta tables, beside appends."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from deltalake import DeltaTable, write_deltalake
from deltalake.transaction import RemoveAction

from deploy.local.layout import CHECKOUT
from gold_writer.lake.commits import appended, read_commit
from gold_writer.lake.tables import BRONZE, FACT, create
from gold_writer.maintenance import files
from gold_writer.maintenance.replace import Replaced, replace_files
from gold_writer.maintenance.replace import files as live_files
from gold_writer.maintenance.upkeep import UPKEEP, Upkeep

MB = 1 << 20
UPKEEP_OF = {upkeep.table: upkeep for upkeep in UPKEEP}


def fact(lake: Path, commits: int, rows: int = 5) -> Path:
    create(FACT, lake, "topic")
    path = FACT.path(lake)
    for commit in range(commits):
        append_facts(path, commit * rows, rows)
    return path


def append_facts(path: Path, start: int, rows: int) -> None:
    made = [
        {
            "event_id": f"event-{n}",
            "stock_code": f"{n % 7}",
            "customer_id": f"{n % 3}",
            "date_key": 20260101 + n % 5,
            "partition": 0,
            "offset": n,
            "ingest_ts": datetime(2026, 1, 1, tzinfo=UTC),
        }
        for n in range(start, start + rows)
    ]
    write_deltalake(str(path), pa.Table.from_pylist(made, schema=FACT.schema), mode="append")


def ids(path: Path) -> list[str]:
    return sorted(pl.read_delta(str(path))["event_id"].to_list())


def test_compaction_makes_one_file_with_bloom_filters_of_the_same_rows(tmp_path: Path) -> None:
    path = fact(tmp_path, commits=20)
    before = pl.read_delta(str(path)).sort("event_id")

    done = files.compact(path, UPKEEP_OF[FACT.name], target_bytes=32 * MB, min_files=16)

    assert (done.files_in, done.files_out) == (20, 1)
    assert pl.read_delta(str(path)).sort("event_id").equals(before)
    (uri,) = DeltaTable(str(path)).file_uris()
    columns = pq.read_metadata(uri).row_group(0)
    filtered = {
        columns.column(i).path_in_schema
        for i in range(columns.num_columns)
        if columns.column(i).to_dict().get("bloom_filter_offset") or _has_bloom(columns.column(i))
    }
    assert filtered == {"event_id", "invoice_no", "customer_id"}
    live = live_files(DeltaTable(str(path)))
    assert {"min.offset", "max.offset", "min.ingest_ts", "max.event_id"} <= set(live.columns)
    protocol = DeltaTable(str(path)).protocol()
    assert (protocol.min_reader_version, protocol.min_writer_version) == (1, 2)


def _has_bloom(column: pq.ColumnChunkMetaData) -> bool:
    return "bloom_filter_offset: None" not in str(column) and "bloom_filter_offset" in str(column)


def test_compaction_waits_until_there_are_enough_small_files_and_then_leaves_large_ones_alone(
    tmp_path: Path,
) -> None:
    path = fact(tmp_path, commits=15)
    upkeep = UPKEEP_OF[FACT.name]
    assert files.compact(path, upkeep, 32 * MB, min_files=16) == files.Rewritten()
    assert files.compact(path, upkeep, 32 * MB, min_files=15).files_in == 15
    (large,) = live_files(DeltaTable(str(path)))["path"].to_list()
    append_facts(path, 1000, 5)
    append_facts(path, 1005, 5)
    target = live_files(DeltaTable(str(path)))["size_bytes"].max()
    assert isinstance(target, int)
    assert files.compact(path, upkeep, target, min_files=2).files_in in (0, 2)
    assert large in live_files(DeltaTable(str(path)))["path"].to_list()


_APPENDER = """
import sys
from pathlib import Path
from tests.unit.maintenance.test_maintenance_files import append_facts
path, start = Path(sys.argv[1]), 10_000
print("ready", flush=True)
while not (path.parent / "stop").exists():
    append_facts(path, start, 5)
    start += 5
print(start)
"""


def test_rewrites_beside_another_process_that_appends_lose_and_double_nothing(tmp_path: Path) -> None:
    path = fact(tmp_path, commits=20)
    appender = subprocess.Popen(
        [sys.executable, "-c", _APPENDER, str(path)],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(CHECKOUT)},
    )
    try:
        assert appender.stdout is not None
        assert appender.stdout.readline() == "ready\n"
        upkeep, rewritten = UPKEEP_OF[FACT.name], 0
        deadline = time.monotonic() + 60
        while rewritten < 5 and time.monotonic() < deadline:
            rewritten += bool(files.compact(path, upkeep, 32 * MB, min_files=4).files_in)
            assert files.z_order(path, upkeep, 32 * MB, 64 * MB).files_out >= 1
        assert rewritten == 5
        (path.parent / "stop").touch()
        end = int(appender.communicate(timeout=30)[0])
    finally:
        appender.kill()
        appender.wait()
    assert ids(path) == sorted(f"event-{n}" for n in [*range(100), *range(10_000, end)])
    version = DeltaTable(str(path)).version()
    commits = [read_commit(path, number) or [] for number in range(version + 1)]
    counted = [row for actions in commits for add in appended(actions) for row in _ids_of(path, add["path"])]
    assert sorted(counted) == ids(path), "who follows the commits counts each row once"


def _ids_of(path: Path, name: str) -> list[str]:
    return [str(found) for found in pq.read_table(path / name, columns=["event_id"])["event_id"].to_pylist()]


def test_a_rewrite_of_a_file_that_was_replaced_meanwhile_is_refused(tmp_path: Path) -> None:
    path = fact(tmp_path, commits=16)
    gone = live_files(DeltaTable(str(path))).head(1)
    files.compact(path, UPKEEP_OF[FACT.name], 32 * MB, min_files=2)
    with pytest.raises(Replaced):
        replace_files(path, gone)
    assert ids(path) == sorted(f"event-{n}" for n in range(80))
    # The check is needed: deltalake itself takes such a commit.
    stale = RemoveAction(gone["path"][0], True, 0, size=1, partition_values={})
    table = DeltaTable(str(path))
    table.create_write_transaction([stale], "append", table.schema())


def test_a_rewrite_goes_behind_appends_that_come_first_and_keeps_its_mark(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = fact(tmp_path, commits=2)
    gone = live_files(DeltaTable(str(path))).filter(pl.col("max.offset") == 4)
    plain = DeltaTable.create_write_transaction
    raced: list[int] = []

    def after_an_append(table: DeltaTable, *arguments: Any, **more: Any) -> None:
        if len(raced) < 3:
            raced.append(table.version())
            append_facts(path, 100 + 5 * len(raced), 5)
        plain(table, *arguments, **more)

    monkeypatch.setattr(DeltaTable, "create_write_transaction", after_an_append)
    replace_files(path, gone, marks={"mark": 7})
    assert raced == [2, 3, 4]
    assert ids(path) == sorted(f"event-{n}" for n in [*range(5, 10), *range(105, 120)])
    assert DeltaTable(str(path)).transaction_version("mark") == 7


def bronze(lake: Path, years: list[int]) -> Path:
    create(BRONZE, lake, "topic")
    path = BRONZE.path(lake)
    for n, year in enumerate(years):
        row = {
            "key": str(n).encode(),
            "partition": 0,
            "offset": n,
            "kafka_ts": datetime(year, 6, 1, tzinfo=UTC),
            "ingestion_date": date(year, 6, 1),
            "source_system": ["Café / 1=%", "shop", None][n % 3],
        }
        write_deltalake(str(path), pa.Table.from_pylist([row], schema=BRONZE.schema), mode="append")
    return path


def test_retention_removes_exactly_the_older_rows(tmp_path: Path) -> None:
    path = bronze(tmp_path, [2015, 2016, 2017, 2018, 2026, 2026])
    before = datetime(2018, 1, 1, tzinfo=UTC)
    assert files.expire(path, UPKEEP_OF[BRONZE.name], before) == 3
    assert sorted(pl.read_delta(str(path))["offset"].to_list()) == [3, 4, 5]
    assert files.expire(path, UPKEEP_OF[BRONZE.name], before) == 0
    assert files.expire(path, Upkeep(BRONZE.name, aged_by="no_statistics"), before) == 0


def test_vacuum_deletes_replaced_and_orphaned_files_once_they_are_old_enough(tmp_path: Path) -> None:
    path = fact(tmp_path, commits=16)
    upkeep = UPKEEP_OF[FACT.name]
    orphan, young = path / "part-orphan.parquet", path / "part-under-way.parquet"
    orphan.write_bytes(b"x")
    young.write_bytes(b"x")
    two_days = time.time() - 48 * 3600
    os.utime(orphan, (two_days, two_days))
    files.compact(path, upkeep, 32 * MB, min_files=2)
    files.vacuum(path, 24)
    assert len(list(path.glob("*.parquet"))) == 16 + 1 + 2, "what was replaced just now stays for readers"

    files.vacuum(path, 24, full=True)
    assert not orphan.exists()
    assert young.exists(), "a write under way is not disturbed"

    files.vacuum(path, 0)
    assert len(list(path.glob("*.parquet"))) == 1 + 1
    assert ids(path) == sorted(f"event-{n}" for n in range(80))
