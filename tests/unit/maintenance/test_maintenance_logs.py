"""Cleaning of a table's log."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pyarrow as pa
from deltalake import DeltaTable, write_deltalake

from gold_writer.lake.tables import BRONZE, create
from gold_writer.maintenance.logs import clean

HOUR = 3600.0


def test_expired_commits_go_with_their_checksums_and_the_rows_stay(tmp_path: Path) -> None:
    create(BRONZE, tmp_path, "topic")
    path = BRONZE.path(tmp_path)
    row = pa.Table.from_pylist([{"offset": 1, "source_system": "s"}], schema=BRONZE.schema)
    for version in range(1, 7):
        write_deltalake(str(path), row, mode="append")
        (path / "_delta_log" / f"{version:020d}.crc").touch()
        if version == 4:
            DeltaTable(str(path)).create_checkpoint()
    before = time.time() - 7 * HOUR
    for file in (path / "_delta_log").iterdir():
        if file.name[:20].isdigit() and int(file.name[:20]) <= 5:
            os.utime(file, (before, before))

    clean(path)

    kept = {file.name for file in (path / "_delta_log").iterdir() if file.suffix in {".json", ".crc"}}
    assert {int(name[:20]) for name in kept} == {4, 5, 6}
    assert DeltaTable(str(path)).to_pyarrow_table().num_rows == 6
