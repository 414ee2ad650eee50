"""Thousands of schedules, and no law broken. A failing one prints its seed and all that happened.

`TILLSTREAM_SIM_SEED=n` runs that schedule alone; `TILLSTREAM_SIM_SCHEDULES` and `TILLSTREAM_SIM_WORKERS` set
how many schedules there are (3,000) and on how many processes (2 at most).
"""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from tests.simulation.sim_crashpoints import points_of
from tests.simulation.sim_run import SCHEDULES, SEED, Report, replay, run_range, story, workers

DEFAULT, LONG = 3_000, 200_000
CHOSEN = os.environ.get(SEED)

pytestmark = pytest.mark.filterwarnings("error")


@pytest.fixture(scope="module")
def report() -> Report:
    if CHOSEN:
        pytest.skip(f"{SEED} chooses one schedule")
    return run_range(0, int(os.environ.get(SCHEDULES, DEFAULT)), workers())


def test_no_schedule_breaks_a_law(report: Report) -> None:
    told = "\n\n".join(story(outcome) for outcome in report.broken[:3])
    assert not report.broken, f"{len(report.broken)} of {report.schedules} schedules; the first:\n\n{told}"


def test_processes_were_killed_at_every_crash_point(report: Report) -> None:
    if report.schedules < DEFAULT:
        pytest.skip(f"{report.schedules} schedules are too few to meet them all")
    assert [point for point in points_of() if not report.killed[point]] == []


def test_every_action_and_ambush_happened(report: Report) -> None:
    if report.schedules < DEFAULT:
        pytest.skip(f"{report.schedules} schedules are too few to meet them all")
    wanted = {
        "send", "send_unacknowledged", "quarantine_at_ingest", "pass_time", "kill", "stop", "expel", "scale",
        "port_fault", "outage", "lose_disk", "error", "freeze", "freeze and expel", "freeze and replace",
    }  # fmt: skip
    assert wanted - set(report.done) == set()


@pytest.mark.skipif(not CHOSEN, reason=f"{SEED} is not set")
def test_the_chosen_seed_breaks_no_law() -> None:
    outcome = replay(int(CHOSEN or 0))
    assert not outcome.broken, story(outcome)


@pytest.mark.parametrize("seed", [2, 3, 40, 41, 16])
def test_a_seed_replays_exactly(seed: int) -> None:
    """Stand-ins, real pipelines and id stores on disk alike."""
    first, again = replay(seed), replay(seed)
    assert first.actions == again.actions
    assert (first.entries, first.killed) == (again.entries, again.killed)


def test_a_seed_replays_in_another_process() -> None:
    """Nothing depends on the order of a set, which differs between processes."""
    command = [sys.executable, "-m", "tests.simulation.sim_run", "7"]
    told = [
        subprocess.run(
            command, env={**os.environ, "PYTHONHASHSEED": seed}, capture_output=True, text=True, check=True
        ).stdout
        for seed in ("1", "2")
    ]
    assert told[0] == told[1] != ""


@pytest.mark.long
def test_no_schedule_of_a_long_run_breaks_a_law() -> None:
    long = run_range(1_000_000, int(os.environ.get(SCHEDULES, LONG)), workers())
    told = "\n\n".join(story(outcome) for outcome in long.broken[:3])
    assert not long.broken, f"{len(long.broken)} of {long.schedules} schedules; the first:\n\n{told}"
