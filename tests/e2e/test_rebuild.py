"""A store that was lost or damaged is made whole again, and the ledger agrees."""

from __future__ import annotations

import shutil

import pytest

from deploy.local.testing import run_command
from tests.e2e.conftest import SAMPLE, Probe


@pytest.fixture(scope="module", autouse=True)
def _loaded(probe: Probe) -> None:
    probe.load(*SAMPLE)


def test_a_damaged_warehouse_unbalances_the_ledger_until_it_is_rebuilt(probe: Probe) -> None:
    before = probe.warehouse()
    lost = before[0]["event_id"]
    probe.sql("delete from warehouse.fact_sales where event_id = $1", lost)
    ledger = probe.command("ledger", "--json", expect=1)
    assert (ledger["balanced"], ledger["missing"]) == (False, [lost])
    done = run_command(probe.platform.env, "rebuild", "warehouse", timeout_s=300)
    assert done.returncode == 0, done.stderr
    probe.wait_for(lambda: probe.command_ledger()["in_flight"] == 0, 120, "the warehouse written anew")
    assert probe.ledger()["balanced"]
    assert probe.warehouse() == before


def test_a_lake_without_its_checkpoint_goes_on_after_rebuild(probe: Probe) -> None:
    before = probe.lake().sort("event_id")
    shutil.rmtree(probe.platform.home / "state" / "lake" / "checkpoints")
    done = run_command(probe.platform.env, "rebuild", "lake", timeout_s=300)
    assert done.returncode == 0, done.stderr
    report = probe.load(SAMPLE[0], source="after-rebuild")
    assert report["balanced"]
    lake = probe.lake()
    assert lake["event_id"].n_unique() == len(lake)
    assert set(before["event_id"]) < set(lake["event_id"])
