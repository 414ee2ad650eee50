"""Many schedules, on a few processes; and one again: `python -m tests.simulation.sim_run SEED`."""

from __future__ import annotations

import os
import sys
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import islice
from multiprocessing import get_context
from unittest import mock

from tests.simulation.sim_ledger import audit
from tests.simulation.sim_schedule import Outcome, run

CHUNK = 50
"""Schedules that a worker takes at once, and whose ledger is drawn as one."""

SEED = "TILLSTREAM_SIM_SEED"
SCHEDULES = "TILLSTREAM_SIM_SCHEDULES"
WORKERS = "TILLSTREAM_SIM_WORKERS"


@dataclass
class Report:
    """Of a range of seeds. `killed` counts the kills at each (service, crash point); `broken` are the
    schedules that broke a law."""

    schedules: int = 0
    broken: list[Outcome] = field(default_factory=list)
    killed: Counter[tuple[str, str]] = field(default_factory=Counter)
    done: Counter[str] = field(default_factory=Counter)

    def add(self, other: Report) -> None:
        self.schedules += other.schedules
        self.broken += other.broken
        self.killed += other.killed
        self.done += other.done


def run_range(first: int, count: int, workers: int) -> Report:
    """Run the schedules of `count` seeds from `first` on."""
    chunks = list(_chunks(range(first, first + count)))
    report = Report()
    if workers <= 1:
        for chunk in chunks:
            report.add(run_chunk(chunk))
        return report
    # Not forked: Polars has threads. One each is enough for batches of five.
    with mock.patch.dict(os.environ, {"POLARS_MAX_THREADS": "1"}), get_context("spawn").Pool(workers) as pool:
        for part in pool.imap_unordered(run_chunk, chunks):
            report.add(part)
    report.broken.sort(key=lambda outcome: outcome.seed)
    return report


def run_chunk(seeds: Iterable[int]) -> Report:
    report, entries = Report(), []
    for seed in seeds:
        outcome = run(seed)
        report.schedules += 1
        report.killed += outcome.killed
        report.done += outcome.done
        if outcome.broken:
            report.broken.append(outcome)
        elif outcome.entries:
            entries.append(outcome.entries)
    for seed, wrong in audit(entries):
        again = run(seed)
        again.broken = f"ledger: {wrong}"
        report.broken.append(again)
    return report


def story(outcome: Outcome) -> str:
    """What to read when a schedule broke a law."""
    actions = "\n".join(outcome.actions)
    return (
        f"seed {outcome.seed} broke {outcome.broken}\n\n{actions}\n\n"
        f"Again: {SEED}={outcome.seed} python -m pytest tests/simulation -k seed, or "
        f"python -m tests.simulation.sim_run {outcome.seed}"
    )


def replay(seed: int) -> Outcome:
    """One schedule again, its ledger audited."""
    outcome = run(seed)
    if outcome.entries and (wrong := audit([outcome.entries])):
        outcome.broken = f"ledger: {wrong[0][1]}"
    return outcome


def workers() -> int:
    return int(os.environ.get(WORKERS) or min(2, os.cpu_count() or 1))


def _chunks(seeds: Iterable[int]) -> Iterator[list[int]]:
    rest = iter(seeds)
    while chunk := list(islice(rest, CHUNK)):
        yield chunk


if __name__ == "__main__":
    told = replay(int(sys.argv[1]))
    print(story(told) if told.broken else "\n".join([*told.actions, "no law broken"]))
    sys.exit(bool(told.broken))
