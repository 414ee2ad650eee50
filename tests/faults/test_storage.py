"""A full disk under what a service keeps, and a lake whose checkpoints are lost."""

from __future__ import annotations

import os
import shutil
import time

import polars as pl
import pytest

from tests.faults.small_disk import small_disk
from tests.faults.world import World, wait_for

pytestmark = pytest.mark.long
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can mount a small disk")

# Longer than five failed starts in a row would take, after which a process stays down.
FULL_S = 45.0


@needs_root
@pytest.mark.parametrize(
    ("service", "folder", "writers"),
    [("quality", "state/quality", ["quality"]), ("lake", "lake", ["lake", "maintenance"])],
)
def test_a_full_disk_is_told_and_nothing_is_lost(
    world: World, service: str, folder: str, writers: list[str]
) -> None:
    with small_disk(world, writers, world.platform.home / folder) as disk:
        wait_for(lambda: world.is_ready(service), 120, f"{service} ready on its own disk")
        with world.fault(f"disk-full-{service}") as load:
            log = world.log(service)
            with disk.full():
                # More than what the id store can put into pages of its own that are free.
                load.burst("full", 30_000)
                filled, before = time.monotonic(), len(load.sent)
                said = wait_for(lambda: log.says("(?i)no space left"), 60, "the log to say so")
                wait_for(lambda: not world.is_ready(service), 60, f"{service} to be seen as not ready")
                reason = wait_for(lambda: _space(world, service), 90, "the reason to name the disk")
                time.sleep(max(FULL_S - (time.monotonic() - filled), 0))
                assert len(load.sent) > before, "the doors stay open"
                assert world.supervisor.process(service).state != "FATAL"
            print(f"said: {said[:300]}; reason: {reason}")
            wait_for(lambda: world.is_ready(service), 120, f"{service} ready once there is room")
        wait_for(lambda: world.lags()[service] == 0, 60, "no lag before the disk is taken away")


def _space(world: World, service: str) -> str | None:
    reason = world.reason(service)
    return reason if "space" in reason or "full" in reason else None


def test_a_lake_without_its_checkpoints_refuses_until_it_is_rebuilt(world: World) -> None:
    with world.fault("lost-checkpoint") as load:
        log = world.log("lake")
        with world.stopped("lake"):
            shutil.rmtree(world.layout.state / "lake" / "checkpoints")
            rows = _rows(world)
        said = wait_for(lambda: log.says("checkpoint is lost"), 90, "the lake to say why it does not start")
        assert "tillstream rebuild lake" in said
        wait_for(lambda: world.platform.service("lake")["state"] == "failed", 120, "the lake to be failed")
        assert _rows(world) == rows, "it wrote nothing"
        before = len(load.sent)
        done = world.platform.command("rebuild", "lake", timeout_s=300)
        assert done.returncode == 0, done.stderr
        assert len(load.sent) > before, "the doors stay open"


def _rows(world: World) -> dict[str, int]:
    tables = ("gold/fact_sales", "silver/sales", "bronze/sales", "bronze/quarantine")
    lake = world.platform.lake
    return {table: pl.scan_delta(str(lake / table)).select(pl.len()).collect().item() for table in tables}
