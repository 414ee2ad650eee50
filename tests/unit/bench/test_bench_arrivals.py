"""When events arrived, from what watchers saw and from Delta's commits."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from bench.chain import delta
from bench.chain.arrivals import Series, arrived, by_rank, percentiles
from bench.chain.events import intended_ms
from bench.chain.load import LINES_OF_AN_INVOICE, Lines, Plan
from bench.chain.own_stack import cpu_used
from bench.workloads.stage_runs import compare

PLACE: dict[str, pl.DataType] = {"partition": pl.Int32(), "offset": pl.Int64()}
PLAN = Plan("http://127.0.0.1:1", rate=500, seconds=2, tick_ms=20, begin_ms=1_700_000_000_000.0)


def test_an_event_arrives_when_the_series_first_passes_its_offset() -> None:
    series = Series()
    for at_ms, below in ((100.0, 0), (110.0, 5), (120.0, 5), (130.0, 9)):
        series.add(at_ms, below)
    found = series.arrived_ms(np.array([0, 4, 5, 8, 9]))
    assert found[:4].tolist() == [110.0, 110.0, 130.0, 130.0]
    assert np.isnan(found[4])


def test_partitions_are_told_apart_and_one_never_seen_is_missing() -> None:
    events = pl.DataFrame({"partition": [0, 1, 2], "offset": [3, 3, 3]})
    first, second = Series(), Series()
    first.add(10.0, 4)
    second.add(20.0, 3)
    second.add(30.0, 99)
    found = arrived(events, {0: first, 1: second})
    assert found[:2].tolist() == [10.0, 30.0]
    assert np.isnan(found[2])


def test_a_feed_that_only_counts_has_an_event_once_it_counted_all_up_to_it() -> None:
    first = np.array([10.0, 10.0, 20.0, np.nan, 30.0])
    found = by_rank(first, counts=[1, 2, 3], at_ms=[11.0, 15.0, 25.0])
    # The first two came together: both are there when the feed says two.
    assert found[:3].tolist() == [15.0, 15.0, 25.0]
    assert np.isnan(found[3])
    assert np.isnan(found[4])


def test_percentiles_are_nearest_rank_over_all_and_the_missing_are_counted() -> None:
    found = percentiles(np.append(np.arange(1, 1001, dtype=np.float64), np.nan))
    assert (found.events, found.missing) == (1000, 1)
    assert (found.p50, found.p95, found.p99, found.p999, found.maximum) == (0.5, 0.95, 0.99, 0.999, 1.0)
    nothing = percentiles(np.array([np.nan]))
    assert (nothing.events, nothing.missing) == (0, 1)
    assert np.isnan(nothing.p99)


def table(path: Path) -> None:
    """Two appends, a compaction of both, and the removal of the first file by VACUUM."""
    log = path / "_delta_log"
    log.mkdir(parents=True)
    for name, offsets in (("a b", [0, 1]), ("b", [2]), ("ab", [0, 1, 2])):
        pl.DataFrame({"partition": [0] * len(offsets), "offset": offsets}).write_parquet(
            path / f"{name}.parquet"
        )
    adds = [("a%20b", True), ("b", True), ("ab", False)]
    for version, (name, change) in enumerate(adds):
        actions = [{"commitInfo": {}}, {"add": {"path": f"{name}.parquet", "dataChange": change}}]
        file = log / f"{version:020d}.json"
        file.write_text("\n".join(map(json.dumps, actions)))
        os.utime(file, ns=(0, (1000 + version) * 10**6))


def test_rows_of_delta_are_visible_from_their_first_commit_and_compaction_changes_nothing(
    tmp_path: Path,
) -> None:
    table(tmp_path)
    found = delta.visible(tmp_path, PLACE).sort("offset")
    assert found["offset"].to_list() == [0, 1, 2]
    assert found["at_ms"].to_list() == [1000.0, 1000.0, 1001.0]


def test_rows_whose_file_is_gone_are_missing_and_not_guessed(tmp_path: Path) -> None:
    table(tmp_path)
    (tmp_path / "a b.parquet").unlink()
    assert delta.visible(tmp_path, PLACE)["offset"].to_list() == [2]
    assert delta.visible(tmp_path / "none", PLACE).is_empty()


def test_every_event_of_the_load_has_a_name_of_its_own_and_its_own_time() -> None:
    lines = Lines(PLAN)
    sent = [json.loads(line) for tick in range(PLAN.ticks) for line in lines.body(tick).splitlines()]
    names = {(line["invoice_no"], line["line_no"]) for line in sent}
    assert len(names) == len(sent) == PLAN.rate * PLAN.seconds
    numbers = [int(s["invoice_no"][1:]) * LINES_OF_AN_INVOICE + s["line_no"] - 1 for s in sent]
    meant = intended_ms(pl.DataFrame({"number": numbers}), PLAN).to_list()
    assert meant == [PLAN.intended_ms(tick) for tick in range(PLAN.ticks) for _ in range(PLAN.per_tick)]


def test_the_sampler_is_given_invoices_that_are_sent_in_that_second() -> None:
    lines = Lines(PLAN)
    for second, invoice in PLAN.first_invoices().items():
        first = int((second * 1000 - PLAN.begin_ms) // PLAN.tick_ms)
        bodies = b"".join(lines.body(tick) for tick in range(first, first + 1000 // PLAN.tick_ms))
        assert f'"{invoice}"'.encode() in bodies


def test_cpu_of_a_process_that_was_started_again_counts_from_its_new_start() -> None:
    used = cpu_used({"kafka": 5.0, "lake": 9.0}, {"kafka": 7.0, "lake": 1.0, "new": 0.5})
    assert used == {"kafka": 2.0, "lake": 1.0, "new": 0.5}


@pytest.mark.parametrize(
    ("found", "lost", "doubled", "foreign"),
    [("ab", 0, 0, 0), ("a", 1, 0, 0), ("aab", 0, 1, 0), ("aac", 1, 1, 1)],
)
def test_ids_after_a_kill_are_compared_one_by_one(found: str, lost: int, doubled: int, foreign: int) -> None:
    survived = compare(found, frozenset("ab"))
    assert (survived.lost, survived.doubled, survived.foreign) == (lost, doubled, foreign)
