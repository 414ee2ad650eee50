"""Which checkpoint and table go together, and which the lake refuses."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pytest
from deltalake import CommitProperties, DeltaTable, Transaction, write_deltalake

from gold_writer.lake.guard import NONE, CheckpointState, Refused, Resume, TableState, check, settle
from gold_writer.lake.rebuild import next_offsets, rebuild
from gold_writer.lake.tables import BRONZE, create

TOPIC, TOPIC_ID = "sales.raw.v1", "abcdefghijklmnopqrstuv"
EMPTY = TableState("bronze/sales", TOPIC_ID, version=0, batch=NONE, has_rows=False, unchanged_since=0)
WRITTEN = TableState("bronze/sales", TOPIC_ID, version=7, batch=5, has_rows=True, unchanged_since=7)
NEW = CheckpointState(None, planned=NONE, committed=NONE, resume=None)
KEPT = CheckpointState("query-1", planned=5, committed=5, resume=None)


def decide(table: TableState, checkpoint: CheckpointState) -> dict[int, int] | None:
    return check(table, checkpoint, TOPIC, TOPIC_ID)


@pytest.mark.parametrize(
    ("table", "checkpoint"),
    [
        (EMPTY, NEW),
        (EMPTY, replace(KEPT, planned=0, committed=NONE)),
        (WRITTEN, KEPT),
        (WRITTEN, replace(KEPT, planned=6)),
        (WRITTEN, replace(KEPT, committed=4)),
    ],
    ids=["first start", "stopped in batch 0", "stopped", "next batch planned", "killed after Delta's commit"],
)
def test_a_table_with_its_own_checkpoint_starts(table: TableState, checkpoint: CheckpointState) -> None:
    assert decide(table, checkpoint) is None


@pytest.mark.parametrize(
    ("table", "checkpoint", "reason"),
    [
        (replace(WRITTEN, batch=NONE), NEW, "its checkpoint is lost"),
        (replace(WRITTEN, batch=NONE), replace(KEPT, committed=NONE), "none by the query of this checkpoint"),
        (EMPTY, KEPT, "the table holds none of them"),
        (WRITTEN, replace(KEPT, planned=3, committed=3), "would be skipped"),
        (WRITTEN, replace(KEPT, planned=4, committed=4), "would be skipped"),
        (WRITTEN, replace(KEPT, planned=9, committed=9), "rows are missing"),
        (replace(WRITTEN, topic_id="other"), KEPT, "written from topic id other"),
        (replace(EMPTY, topic_id=None), NEW, "written from topic id None"),
    ],
)
def test_any_other_checkpoint_is_refused_with_the_way_out(
    table: TableState, checkpoint: CheckpointState, reason: str
) -> None:
    with pytest.raises(Refused, match=reason) as refused:
        decide(table, checkpoint)
    assert "tillstream rebuild lake" in str(refused.value)


def test_a_rebuilt_checkpoint_starts_at_its_offsets_while_the_table_is_unchanged() -> None:
    table = replace(WRITTEN, batch=NONE)
    rebuilt = replace(NEW, resume=Resume(TOPIC_ID, table.version, {0: 10, 1: 0}))
    assert decide(table, rebuilt) == {0: 10, 1: 0}
    assert decide(replace(table, version=9), rebuilt) == {0: 10, 1: 0}
    with pytest.raises(Refused, match="lost"):
        decide(replace(table, version=8, unchanged_since=8), rebuilt)
    with pytest.raises(Refused, match="lost"):
        decide(table, replace(rebuilt, resume=Resume("other", table.version, {0: 10})))


def append(lake: Path, offsets: dict[int, list[int]], transaction: Transaction | None = None) -> None:
    rows = [
        {"partition": p, "offset": o, "topic_id": TOPIC_ID, "source_system": "s"}
        for p, found in offsets.items()
        for o in found
    ]
    table = pa.Table.from_pylist(rows, schema=BRONZE.schema)
    properties = CommitProperties(app_transactions=[transaction] if transaction else None)
    write_deltalake(str(BRONZE.path(lake)), table, mode="append", commit_properties=properties)


def test_states_are_read_from_the_files_of_spark_and_delta(tmp_path: Path) -> None:
    create(BRONZE, tmp_path, TOPIC_ID)
    checkpoint = tmp_path / "checkpoint"
    for folder, names in {"offsets": ["8", "9", "10", ".10.tmp"], "commits": ["9"]}.items():
        (checkpoint / folder).mkdir(parents=True)
        for name in names:
            (checkpoint / folder / name).touch()
    (checkpoint / "metadata").write_text(json.dumps({"id": "query-1"}))

    assert TableState.read("t", BRONZE.path(tmp_path), None) == TableState("t", TOPIC_ID, 0, NONE, False, 0)
    append(tmp_path, {0: [1]}, Transaction(app_id="query-1", version=10))

    assert CheckpointState.read(checkpoint) == CheckpointState("query-1", 10, 9, None)
    assert TableState.read("t", BRONZE.path(tmp_path), "query-1") == TableState("t", TOPIC_ID, 1, 10, True, 1)
    assert TableState.read("t", BRONZE.path(tmp_path), "query-2") == TableState(
        "t", TOPIC_ID, 1, NONE, True, 1
    )


@pytest.mark.parametrize(
    ("offsets", "commits", "batch", "settled"),
    [
        ([4, 5], [4, 5], 5, (5, 5)),
        ([4, 5], [4], 4, (4, 4)),
        ([4, 5], [4], 5, (5, 5)),
        ([0], [], NONE, (NONE, NONE)),
        ([0], [], 0, (0, 0)),
    ],
    ids=["nothing under way", "only planned", "in the table", "first only planned", "first in the table"],
)
def test_the_batch_under_way_is_finished_or_forgotten_before_spark_starts(
    offsets: list[int], commits: list[int], batch: int, settled: tuple[int, int], tmp_path: Path
) -> None:
    (tmp_path / "offsets").mkdir()
    for number in offsets:
        (tmp_path / "offsets" / str(number)).touch()
    for number in commits:
        (tmp_path / "commits").mkdir(exist_ok=True)
        (tmp_path / "commits" / str(number)).touch()
    settle(tmp_path, CheckpointState.read(tmp_path), batch)
    state = CheckpointState.read(tmp_path)
    assert (state.planned, state.committed) == settled


def test_rebuild_goes_on_after_the_highest_offset_of_each_partition(tmp_path: Path) -> None:
    create(BRONZE, tmp_path, TOPIC_ID)
    append(tmp_path, {0: [3, 4], 2: [0]})
    append(tmp_path, {0: [9]})
    assert next_offsets(BRONZE.path(tmp_path), TOPIC_ID, 3) == {0: 10, 1: 0, 2: 1}

    checkpoint = tmp_path / "checkpoint"
    (checkpoint / "offsets").mkdir(parents=True)
    rebuild(BRONZE, tmp_path, checkpoint, TOPIC_ID, 3)
    state = CheckpointState.read(checkpoint)
    table = TableState.read(BRONZE.name, BRONZE.path(tmp_path), state.query_id)
    assert check(table, state, TOPIC, TOPIC_ID) == {0: 10, 1: 0, 2: 1}
    assert state.query_id is None

    DeltaTable(str(BRONZE.path(tmp_path))).optimize.compact()
    compacted = TableState.read(BRONZE.name, BRONZE.path(tmp_path), None)
    assert (compacted.version, compacted.unchanged_since) == (3, 2)
    assert check(compacted, state, TOPIC, TOPIC_ID) == {0: 10, 1: 0, 2: 1}

    append(tmp_path, {1: [0]})
    with pytest.raises(Refused, match="lost"):
        check(TableState.read(BRONZE.name, BRONZE.path(tmp_path), None), state, TOPIC, TOPIC_ID)


def test_rebuild_refuses_rows_of_another_topic(tmp_path: Path) -> None:
    create(BRONZE, tmp_path, "other")
    with pytest.raises(Refused, match="written from topic id other"):
        rebuild(BRONZE, tmp_path, tmp_path / "checkpoint", TOPIC_ID, 3)
    assert DeltaTable(str(BRONZE.path(tmp_path))).version() == 0
