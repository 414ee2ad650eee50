"""`year`: 541,909 lines of a retailer from one CSV file to every store, by the real command."""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from bench.chain.delta import commits
from bench.chain.observe import LAKE
from bench.chain.own_stack import cpu_by_process, cpu_used, own_platform
from bench.chain.watch import AggregatesWatcher, WarehouseWatcher, Watcher, now_ms
from bench.chain.year_file import LINES, source_lines, year
from bench.harness.machine import describe
from bench.harness.results import Result, Table
from bench.transform.dataset import SAMPLES
from bench.workloads.stage_runs import say
from deploy.local.errors import CommandError
from deploy.local.testing import Platform

HELP: Final = "541,909 lines from CSV to every store"
_LOAD_S: Final = 1800.0
_WARM_LINES: Final = 7_000
_SEARCH_POLL_S: Final = 0.5


@dataclass(frozen=True, slots=True)
class _Loaded:
    """`done_s`: store -> seconds from the start of the load to its last row."""

    report: Mapping[str, Any]
    done_s: Mapping[str, float]
    cpu_s: Mapping[str, float]
    wall_s: float


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--lines", type=int, default=LINES, help="lines of the file (default: %(default)s)")
    parser.add_argument(
        "--data",
        type=Path,
        default=SAMPLES,
        help="CSV files to make the year of (default: the shipped sample)",
    )


def run(args: argparse.Namespace) -> Result:
    machine, source = describe(), source_lines(args.data)
    with own_platform() as platform, tempfile.TemporaryDirectory(prefix="tillstream-bench-") as folder:
        file = Path(folder) / "year.csv"
        year(source, args.lines).write_csv(file)
        _warm_up(platform, source.head(_WARM_LINES), Path(folder) / "warm-up.csv")
        say(f"loading {args.lines:,} lines")
        loaded = _load(platform, file)
    if loaded.report["accepted"] != args.lines or loaded.report["missing"]:
        raise CommandError(f"not every line has its outcome; the run is void: {dict(loaded.report)}")
    return _result(loaded, machine, source.height, args)


def _warm_up(platform: Platform, lines: Any, path: Path) -> None:
    """A few thousand lines of another source, so that no process does its first work in the measured time."""
    lines.write_csv(path)
    platform.json("load", str(path), "--source", "warm-up", "--wait", timeout_s=_LOAD_S)


def _load(platform: Platform, file: Path) -> _Loaded:
    urls = platform.urls
    watchers: dict[str, AggregatesWatcher | WarehouseWatcher] = {
        "live feed (aggregates topic)": AggregatesWatcher(urls["kafka"], urls["registry"]),
        "warehouse": WarehouseWatcher(urls["postgres"], every_s=0.1),
    }
    search = _SearchWatcher(platform) if urls.get("elasticsearch") else None
    for watcher in (*watchers.values(), *([search] if search else [])):
        watcher.start()
    before, begun_ms = cpu_by_process(platform.home), now_ms()
    report = platform.json("load", str(file), "--wait", "--timeout", str(_LOAD_S), timeout_s=_LOAD_S + 60)
    wall_s = (now_ms() - begun_ms) / 1000
    if search is not None:
        search.until_equal(_LOAD_S)
    after = cpu_by_process(platform.home)
    for watcher in (*watchers.values(), *([search] if search else [])):
        watcher.stop()
    last_ms = {
        name: max(series.at_ms[-1] for series in watcher.series.values())
        for name, watcher in watchers.items()
    }
    time.sleep(10.0)  # silver and bronze may commit their last rows after fact and warehouse
    last_ms |= {name: commits(platform.lake / table)[-1].at_ms for name, (table, _) in LAKE.items()}
    if search is not None:
        last_ms["search"] = search.done_ms
    done = {name: (at_ms - begun_ms) / 1000 for name, at_ms in last_ms.items()}
    return _Loaded(report, done, cpu_used(before, after), wall_s)


class _SearchWatcher(Watcher):
    """Until the ledger says that search holds as many ids as the warehouse."""

    def __init__(self, platform: Platform) -> None:
        super().__init__()
        self._platform = platform
        self.done_ms = float("nan")

    def watch(self) -> None:
        while not self.stopping.wait(_SEARCH_POLL_S):
            gold = json.loads(self._platform.command("ledger", "--json").stdout)["gold"]
            if gold["search"] == gold["warehouse"] == gold["lake"]:
                self.done_ms = now_ms()

    def until_equal(self, timeout_s: float) -> None:
        asked, deadline = now_ms(), time.monotonic() + timeout_s
        while not self.done_ms > asked:
            if time.monotonic() > deadline:
                raise CommandError("search did not get all rows")
            time.sleep(_SEARCH_POLL_S)


def _result(loaded: _Loaded, machine: Mapping[str, Any], source: int, args: argparse.Namespace) -> Result:
    lines = args.lines
    rows = [
        [name, f"{seconds:.1f}", f"{lines / seconds:,.0f}"]
        for name, seconds in sorted(loaded.done_s.items(), key=lambda item: item[1])
    ]
    rows.append(["`load --wait` returned", f"{loaded.wall_s:.1f}", f"{lines / loaded.wall_s:,.0f}"])
    cpu = [
        [name, f"{seconds:.1f}", f"{seconds / loaded.wall_s:.2f}"] for name, seconds in loaded.cpu_s.items()
    ]
    report = loaded.report
    return Result(
        workload="year",
        title="year: one CSV file to every store",
        machine=machine,
        parameters={
            "lines": lines,
            "lines of the source": source,
            "gold": report["gold"],
            "duplicates": report["duplicates"],
            "quarantined": report["quarantined"],
        },
        tables=[
            Table("Until the last row was there", ("store", "seconds", "lines/s"), rows),
            Table("CPU of each process", ("process", "CPU, s", "cores"), cpu),
        ],
        notes=[
            f"The file is made of {source:,} real lines (Online Retail): repeated on later days, by a seeded "
            "shift, under new invoice numbers, until there are as many lines as the whole year has.",
            "Time runs from the start of `./tillstream load`. Warehouse: when its offsets moved last; Delta: "
            "the last commit that added rows; live feed: the last total read. A few thousand lines of "
            "another source went through before, so that every process had worked.",
        ],
        raw={"done_s": dict(loaded.done_s), "cpu_s": dict(loaded.cpu_s), "report": dict(report)},
    )
