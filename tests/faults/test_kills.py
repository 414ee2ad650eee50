"""kill -9 of every process in mid-load, and of Spark where its commit protocol is most delicate."""

from __future__ import annotations

import os
import signal

import pytest

from tests.faults.delta_commit import stop_after_delta_commit
from tests.faults.world import SERVICES, World, wait_for

QUICK = ("quality", "enrich", "aggregates")


@pytest.mark.parametrize(
    "service",
    [pytest.param(name, marks=[] if name in QUICK else [pytest.mark.long]) for name in SERVICES],
)
def test_a_killed_service_loses_and_doubles_nothing(world: World, service: str) -> None:
    with world.fault(f"kill-{service}") as load:
        before = len(load.sent)
        world.kill(service)
    assert len(load.sent) > before, "the load goes on"


@pytest.mark.long
def test_spark_killed_between_deltas_commit_and_the_checkpoint_writes_no_row_twice(world: World) -> None:
    with world.fault("kill-spark"):
        lake = world.pid("lake")
        jvm, batch = stop_after_delta_commit(lake, world.layout)
        os.kill(jvm, signal.SIGKILL)
        wait_for(lambda: world.supervisor.process("lake").pid not in (lake, None), 60, "the lake restarted")
        print(f"killed after Delta had committed batch {batch} and before its checkpoint did")


@pytest.mark.long
def test_a_killed_broker_loses_and_doubles_nothing(world: World) -> None:
    with world.fault("kill-broker") as load:
        before = len(load.sent)
        world.kill("kafka")
        wait_for(lambda: len(load.sent) > before + 50, 120, "the load to be acknowledged again")


@pytest.mark.long
def test_postgres_stopped_at_once_loses_and_doubles_nothing(world: World) -> None:
    with world.fault("postgres-immediate") as load:
        before, pid = len(load.sent), world.pid("postgres")
        # What `pg_ctl stop -m immediate` sends: no checkpoint, no farewell, recovery at the next start.
        os.kill(pid, signal.SIGQUIT)
        wait_for(lambda: world.supervisor.process("postgres").pid not in (pid, None), 60, "a new Postgres")
        wait_for(lambda: len(load.sent) > before + 50, 60, "the load to go on")
