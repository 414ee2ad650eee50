"""When jobs run, what a failure does, what a restart remembers; what settings are refused."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry
from pydantic import ValidationError

from gold_writer.lake.tables import FACT, create
from gold_writer.maintenance.lake_jobs import LakeJobs, SomeTablesFailed
from gold_writer.maintenance.metrics import MaintenanceMetrics
from gold_writer.maintenance.schedule import Job, Journal, Lane
from gold_writer.maintenance.settings import MaintenanceSettings
from gold_writer.maintenance.upkeep import UPKEEP, Upkeep
from streamkit.clock import FakeClock


class World:
    def __init__(self, folder: Path) -> None:
        self.clock = FakeClock()
        self.registry = CollectorRegistry()
        self.metrics = MaintenanceMetrics(self.registry)
        self.journal = folder / "runs.json"
        self.ran: list[str] = []

    def job(self, name: str, every_s: float, first_s: float = 0.0, *, fails: bool = False) -> Job:
        def run() -> None:
            self.ran.append(name)
            if fails:
                raise OSError("disk full")

        return Job(name, every_s, run, first_s)

    def lane(self, *jobs: Job) -> Lane:
        lane = Lane("test", jobs, self.metrics, Journal(self.journal), self.clock)
        lane._thread.run = lambda: None  # type: ignore[method-assign]  # the test is the thread
        lane.start()
        return lane

    def sample(self, name: str, **labels: str) -> float | None:
        return self.registry.get_sample_value(name, labels)


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


def test_jobs_run_when_they_are_due_the_longest_overdue_first(world: World) -> None:
    lane = world.lane(world.job("hourly", 3600, 5), world.job("often", 10, 1))
    assert lane.run_due() == pytest.approx(1)
    world.clock.advance(6)
    assert lane.run_due() == pytest.approx(10)
    assert world.ran == ["often", "hourly"]
    world.clock.advance(10)
    lane.run_due()
    assert world.ran == ["often", "hourly", "often"]


def test_a_failing_job_is_counted_named_and_tried_again_beside_the_others(world: World) -> None:
    lane = world.lane(world.job("bad", 60, fails=True), world.job("good", 60))
    lane.run_due()
    assert lane.failing() == ["bad"]
    assert world.sample("tillstream_maintenance_runs_total", job="bad", outcome="failed") == 1
    assert world.sample("tillstream_maintenance_last_success_timestamp_seconds", job="bad") is None
    assert world.sample("tillstream_maintenance_runs_total", job="good", outcome="done") == 1
    world.clock.advance(60)
    lane.run_due()
    assert world.ran == ["bad", "good", "bad", "good"]


def test_a_restart_does_not_repeat_what_was_done_and_makes_up_for_what_was_missed(world: World) -> None:
    world.lane(world.job("daily", 86_400), world.job("hourly", 3600)).run_due()
    world.clock.advance(7200)
    world.lane(world.job("daily", 86_400), world.job("hourly", 3600)).run_due()
    assert world.ran == ["daily", "hourly", "hourly"]


def test_an_unreadable_journal_only_means_that_jobs_run_again(world: World) -> None:
    world.journal.write_text("{")
    world.lane(world.job("daily", 86_400)).run_due()
    assert world.ran == ["daily"]


def test_a_damaged_table_fails_the_job_after_the_others_were_done(tmp_path: Path, world: World) -> None:
    create(FACT, tmp_path, "topic")
    (tmp_path / "bronze/broken/_delta_log").mkdir(parents=True)
    (tmp_path / "bronze/broken/_delta_log" / f"{0:020d}.json").write_text("{}")
    settings = MaintenanceSettings(lake=tmp_path)
    tables = (Upkeep("bronze/broken"), *UPKEEP)
    jobs = LakeJobs(settings, lambda: tables, world.metrics, world.clock, threading.Lock())
    with pytest.raises(SomeTablesFailed, match="bronze/broken"):
        jobs.compact()
    assert world.sample("tillstream_lake_files", table=FACT.name) == 0
    jobs = LakeJobs(settings, lambda: UPKEEP, world.metrics, world.clock, threading.Lock())
    for job in jobs.jobs():
        job.run()


@pytest.mark.parametrize("days", [1, 729, 2563])
def test_a_retention_outside_two_to_seven_years_is_refused(days: int) -> None:
    with pytest.raises(ValidationError, match="for ever"):
        MaintenanceSettings(retention_days_bronze=days)
    assert MaintenanceSettings(retention_days_bronze=0).retention_days_bronze == 0
