"""Files as jobs: all of a file, once, whatever happens to the process or the broker."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from ingest_service import csv_records, csv_sales, job_runner
from ingest_service.job_runner import Stopped
from ingest_service.jobs import InUse, Job
from ingest_service.records import QUARANTINE_TOPIC, RAW_TOPIC
from schemas import identity
from streamkit.ports import BrokerError
from tests.unit.ingest_service.ingest_world import HEADER, World

TRACE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
LINES = 200
BROKEN = 50


@pytest.fixture(autouse=True)
def _small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    original = csv_sales.parse

    def parse(stream: Any, defaults: Any, block_bytes: int = 2000) -> Any:
        return original(stream, defaults, block_bytes)

    monkeypatch.setattr(csv_sales, "parse", parse)
    assert csv_records.BLOCK_BYTES > 2000


def world_at(folder: Path) -> World:
    world = World(folder)
    assert world.gate.look() is None
    return world


def submit(world: World, data: bytes) -> Job:
    upload = world.store.begin()
    upload.write(data)
    upload.complete()
    job = Job(
        job_id=upload.job_id,
        load_id="load-1",
        name="day.csv",
        source="online-retail",
        currency="GBP",
        traceparent=TRACE,
        created_ms=world.clock.now_ms(),
        bytes=upload.bytes,
    )
    world.store.save(job)
    return job


def day() -> bytes:
    good = b"536365,85123A,HOLDER,6,2010-12-01 08:26:00,2.55,17850.0,United Kingdom\n"
    lines = [b"536365,broken\n" if n == BROKEN else good for n in range(1, LINES + 1)]
    return HEADER + b"".join(lines)


def wanted_ids() -> set[bytes]:
    return {
        identity.event_id("online-retail", "536365", n).encode() for n in range(1, LINES + 1) if n != BROKEN
    }


def test_file_is_produced_completely_and_counted(tmp_path: Path) -> None:
    world = world_at(tmp_path)
    done = world.jobs.work(submit(world, day()))
    assert (done.state, done.accepted, done.quarantined, done.rows) == ("done", LINES - 1, 1, LINES)
    keys = [record.key for record in world.records(RAW_TOPIC)]
    assert set(keys) == wanted_ids()
    assert len(keys) == LINES - 1
    (item,) = world.quarantine().to_dicts()
    assert item["item_id"] == identity.item_id("online-retail", BROKEN, b"536365,broken")
    assert (item["ordinal"], item["payload_format"], item["load_id"]) == (BROKEN, "csv", "load-1")


def test_file_loaded_twice_has_the_same_ids(tmp_path: Path) -> None:
    world = world_at(tmp_path)
    for _ in range(2):
        world.jobs.work(submit(world, day()))
    assert {record.key for record in world.records(RAW_TOPIC)} == wanted_ids()
    assert world.quarantine()["item_id"].n_unique() == 1


def test_restart_resumes_after_the_last_acknowledged_block_without_repeats(tmp_path: Path) -> None:
    before = world_at(tmp_path)
    job = submit(before, day())
    stop_after(before, blocks=3)
    with pytest.raises(Stopped):
        before.jobs.work(job)
    done_before = {record.key for record in before.records(RAW_TOPIC)}
    after = world_at(tmp_path)
    (resumed,) = after.store.recover(keep=10)
    assert 0 < resumed.rows < LINES
    finished = after.jobs.work(resumed)
    done_after = [record.key for record in after.records(RAW_TOPIC)]
    assert done_before.isdisjoint(done_after)
    assert done_before | set(done_after) == wanted_ids()
    assert (finished.accepted, finished.quarantined) == (LINES - 1, 1)


def test_crash_between_acknowledgement_and_progress_repeats_one_block_with_the_same_ids(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = world_at(tmp_path)
    job = submit(world, day())
    monkeypatch.setattr(world.store, "save", died)
    with pytest.raises(KeyboardInterrupt):
        world.jobs.work(job)
    once = [record.key for record in world.records(RAW_TOPIC)]
    monkeypatch.undo()
    (resumed,) = world.store.recover(keep=10)
    assert resumed.rows == 0
    world.jobs.work(resumed)
    keys = [record.key for record in world.records(RAW_TOPIC)]
    assert set(keys) == wanted_ids()
    assert len(keys) == LINES - 1 + len(once)


def test_broker_outage_in_mid_file_is_waited_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(job_runner, "_FIRST_WAIT_S", 0.01)
    world = world_at(tmp_path)
    seen: list[str | None] = []
    save = world.store.save

    def noted(job: Job) -> None:
        seen.append(job.error)
        save(job)

    monkeypatch.setattr(world.store, "save", noted)
    job = submit(world, day())
    for _ in range(3):
        world.broker.fail_next("produce", BrokerError("broker down", retriable=True))
    done = world.jobs.work(job)
    assert (done.state, done.error, done.accepted) == ("done", None, LINES - 1)
    assert seen.count("waiting: broker down") == 3
    assert len(world.records(RAW_TOPIC)) == LINES - 1


def test_file_with_a_missing_column_fails_by_name_and_produces_nothing(tmp_path: Path) -> None:
    world = world_at(tmp_path)
    failed = world.jobs.work(submit(world, day().replace(b"Quantity", b"Qty", 1)))
    assert failed.state == "failed"
    assert failed.error is not None
    assert failed.error.startswith("missing column Quantity; the header is: InvoiceNo")
    assert world.records(RAW_TOPIC) == world.records(QUARANTINE_TOPIC) == []


def test_file_that_breaks_off_late_keeps_the_counts_of_what_was_produced(tmp_path: Path) -> None:
    world = world_at(tmp_path)
    failed = world.jobs.work(submit(world, day() + b"x" * 1_100_000))
    assert failed.state == "failed"
    assert failed.accepted == len(world.records(RAW_TOPIC)) > 0


def test_defect_fails_the_job_and_not_the_thread(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    world = world_at(tmp_path)

    def defect(*_: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(world.pipeline, "accept", defect)
    failed = world.jobs.work(submit(world, day()))
    assert (failed.state, failed.error) == ("failed", "internal error: ZeroDivisionError()")


def test_runner_finishes_what_an_earlier_process_left_and_lets_the_bytes_go(tmp_path: Path) -> None:
    job = submit(world_at(tmp_path), day())
    (tmp_path / "jobs" / "not-a-job").mkdir()
    world = world_at(tmp_path)
    world.jobs.start()
    wait_for(world, job.job_id)
    world.jobs.close()
    assert {record.key for record in world.records(RAW_TOPIC)} == wanted_ids()
    assert {path.name for path in (tmp_path / "jobs").iterdir()} == {job.job_id, "lock"}
    assert [path.name for path in (tmp_path / "jobs" / job.job_id).iterdir()] == ["job.json"]


def test_second_process_on_the_same_files_refuses_to_start(tmp_path: Path) -> None:
    first, second = world_at(tmp_path), world_at(tmp_path)
    first.jobs.start()
    with pytest.raises(InUse, match="another process"):
        second.jobs.start()
    first.jobs.close()
    second.jobs.start()
    second.jobs.close()


def test_only_the_newest_finished_jobs_are_kept(tmp_path: Path) -> None:
    world = world_at(tmp_path)
    jobs = []
    for _ in range(5):
        world.clock.advance(1)
        job = replace(submit(world, HEADER), state="done")
        world.store.finish(job)
        jobs.append(job.job_id)
    assert world.store.recover(keep=2) == []
    assert [job_id for job_id in jobs if world.store.get(job_id)] == jobs[-2:]


def stop_after(world: World, blocks: int) -> None:
    """The process is told to stop once so many blocks are acknowledged."""
    accept = world.pipeline.accept

    def counted(*arguments: Any) -> Any:
        found = accept(*arguments)
        if len(world.actions) >= blocks:
            world.jobs._stop.set()
        return found

    setattr(world.pipeline, "accept", counted)  # noqa: B010 - a method, for this instance only


def died(_: Job) -> None:
    raise KeyboardInterrupt


def wait_for(world: World, job_id: str) -> None:
    for _ in range(2000):
        job = world.store.get(job_id)
        if job is not None and job.state != "running":
            return
        world.jobs._stop.wait(0.005)
    raise AssertionError("the job did not end")
