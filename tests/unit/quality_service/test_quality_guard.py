"""A bad deployment pauses partitions in place of flooding quarantine; nothing is lost, and people decide.

The window is 100 records here in place of 1,000.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import CollectorRegistry

from quality_service.deployment import DeploymentFile, version
from quality_service.guard import Guard, Limits
from schemas.contract import Contract, load_contract
from schemas.identity import murmur2_partition
from streamkit.clock import FakeClock
from tests.unit.quality_service.quality_bench import QUARANTINE, RAW, VALIDATED, Bench, sale

GOOD = load_contract()
RULE = "ZERO_QUANTITY"


def broken() -> Contract:
    """A contract in which a rule has its sign wrong: it refuses what it should let through."""
    rules = [replace(rule, expression="quantity <> 0") if rule.id == RULE else rule for rule in GOOD.reject]
    return replace(GOOD, reject=rules)


class Memory:
    """Survives the processes of a test."""

    def __init__(self) -> None:
        self.kept: dict[str, Any] | None = None

    def load(self) -> Mapping[str, Any] | None:
        return self.kept

    def save(self, deployment: Mapping[str, Any]) -> None:
        self.kept = dict(deployment)


class Deployed(Bench):
    """A bench whose quality process has a guard; `deploy` starts another version on the same state."""

    def __post_init__(self) -> None:
        self.memory = Memory()
        self.sold = 0
        self.name = "v1"
        self.share = 0.5
        super().__post_init__()

    def guarded(self) -> Guard:
        limits = Limits(records=100, share=self.share)
        return Guard(self.name, self.memory, self.clock, self.stats.registry, limits)

    def deploy(self, name: str, contract: Contract) -> None:
        self.runner.close()
        self.name, self.contract = name, contract
        self.restart()

    def trade(self, count: int, **given: Any) -> list[str]:
        """So many sales, all on one partition; their ids."""
        found: list[dict[str, Any]] = []
        while len(found) < count:
            self.sold += 1
            one = sale(invoice_no=str(self.sold), **given)
            if self.home(one["event_id"]) == 0:
                found.append(one)
        self.sell(*found)
        return [one["event_id"] for one in found]

    def home(self, event_id: str) -> int:
        return int(murmur2_partition([event_id.encode()], 3)[0])

    def settle(self) -> None:
        """Drain, and let what is paused try again for a while."""
        self.drain()
        for _ in range(4):
            self.clock.advance(10)
            self.drain()

    def refused(self) -> set[str]:
        return set(self.read(QUARANTINE)["event_id"])

    def gold(self) -> list[str]:
        return sorted(self.read(VALIDATED)["event_id"])

    def paused(self) -> Mapping[str, str]:
        paused: Mapping[str, str] = self.guard.told()["paused"]
        return paused


@pytest.fixture
def bench() -> Deployed:
    bench = Deployed()
    bench.trade(20)
    bench.settle()
    return bench


def test_a_bad_contract_pauses_its_partition_and_the_fix_resumes_with_nothing_lost(bench: Deployed) -> None:
    before = bench.gold()
    bench.deploy("v2", broken())
    ids = bench.trade(120)
    bench.settle()
    assert bench.paused() == {"0": RULE}
    assert bench.refused() == set()
    assert bench.gold() == before
    ready, reason = bench.stats.readiness()
    assert (ready, bench.stats.state) == (False, "degraded")
    assert f"{RAW}[0] as {RULE}" in str(reason)
    assert f"quarantine allow --reason {RULE}" in str(reason)

    bench.deploy("v3", GOOD)
    bench.settle()
    assert bench.gold() == sorted([*before, *ids])
    assert bench.refused() == set()
    assert (bench.paused(), bench.stats.state) == ({}, "ready")


def test_without_the_guard_the_same_contract_floods_quarantine(bench: Deployed) -> None:
    bench.share = 1.0
    bench.deploy("v2", broken())
    ids = bench.trade(120)
    bench.settle()
    assert bench.refused() == set(ids)


def test_a_lone_bad_event_on_a_quiet_partition_pauses_nothing(bench: Deployed) -> None:
    bench.deploy("v2", GOOD)
    (bad,) = bench.trade(1, quantity=0)
    bench.settle()
    assert bench.refused() == {bad}
    assert (bench.paused(), bench.stats.state) == ({}, "ready")


def test_a_first_start_is_no_change() -> None:
    bench = Deployed(contract=broken())
    ids = bench.trade(120)
    bench.settle()
    assert bench.refused() == set(ids)


def test_a_restart_of_the_same_version_is_no_change(bench: Deployed) -> None:
    bench.deploy("v1", GOOD)
    ids = bench.trade(60, quantity=0)
    bench.settle()
    assert bench.refused() == set(ids)


def test_ten_minutes_after_a_change_the_guard_looks_away(bench: Deployed) -> None:
    bench.deploy("v2", GOOD)
    bench.clock.advance(601)
    ids = bench.trade(60, quantity=0)
    bench.settle()
    assert bench.refused() == set(ids)


def test_when_a_version_came_survives_a_restart(bench: Deployed) -> None:
    bench.deploy("v2", GOOD)
    bench.clock.advance(500)
    bench.deploy("v2", GOOD)
    bench.trade(60, quantity=0)
    bench.settle()
    assert bench.paused() == {"0": RULE}


def test_a_pause_outlasts_the_ten_minutes_and_a_restart(bench: Deployed) -> None:
    bench.deploy("v2", broken())
    bench.trade(60)
    bench.settle()
    bench.clock.advance(3600)
    bench.deploy("v2", broken())
    bench.settle()
    assert bench.paused() == {"0": RULE}
    assert bench.refused() == set()


def test_half_of_the_window_is_borne_and_one_more_is_not(bench: Deployed) -> None:
    bench.deploy("v2", GOOD)
    bench.trade(50, quantity=0)
    bench.settle()
    assert bench.paused() == {}
    assert len(bench.refused()) == 50
    bench.trade(1, quantity=0)
    bench.settle()
    assert bench.paused() == {"0": RULE}
    assert len(bench.refused()) == 50


def test_bad_records_among_enough_good_ones_pause_nothing(bench: Deployed) -> None:
    bench.deploy("v2", GOOD)
    for _ in range(4):
        bench.trade(40)
        bench.trade(24, quantity=0)
        bench.settle()
    assert bench.paused() == {}
    assert len(bench.refused()) == 4 * 24


@pytest.mark.parametrize("reason", [RULE, None])
def test_a_person_lets_the_records_through(bench: Deployed, reason: str | None) -> None:
    bench.deploy("v2", broken())
    ids = bench.trade(70)
    bench.settle()
    bench.guard.allow(reason, "ann")
    bench.settle()
    assert bench.refused() == set(ids)
    assert (bench.paused(), bench.stats.state) == ({}, "ready")


def test_letting_another_reason_through_lifts_no_pause(bench: Deployed) -> None:
    bench.deploy("v2", broken())
    bench.trade(70)
    bench.settle()
    bench.guard.allow("BAD_CURRENCY", "ann")
    bench.settle()
    assert bench.paused() == {"0": RULE}


def test_other_partitions_go_on_while_one_is_paused(bench: Deployed) -> None:
    bench.deploy("v2", GOOD)
    bench.trade(70, quantity=0)
    bench.settle()
    others = [sale(invoice_no=f"other-{i}") for i in range(50)]
    others = [one for one in others if bench.home(one["event_id"]) != 0]
    bench.sell(*others)
    bench.settle()
    assert bench.paused() == {"0": RULE}
    assert {one["event_id"] for one in others} <= set(bench.gold())


def test_the_metric_names_partition_and_reason(bench: Deployed) -> None:
    bench.deploy("v2", broken())
    bench.trade(60)
    bench.settle()
    labels = {"partition": "0", "reason": RULE}
    assert bench.stats.registry.get_sample_value("tillstream_quality_guard_paused", labels) == 1


def test_the_file_keeps_a_deployment_and_a_damaged_one_is_refused(tmp_path: Path) -> None:
    file = DeploymentFile(tmp_path / "state" / "deployment.json")
    first = Guard("v1", file, FakeClock(), CollectorRegistry())
    assert first.told()["since_ms"] is None
    clock = FakeClock(5_000_000)
    assert Guard("v2", file, clock, CollectorRegistry()).told()["since_ms"] == 5_000_000
    clock.advance(60)
    assert Guard("v2", file, clock, CollectorRegistry()).told()["since_ms"] == 5_000_000
    (tmp_path / "state" / "deployment.json").write_text("{")
    with pytest.raises(OSError, match="damaged"):
        file.load()


def test_a_change_of_contract_or_code_is_another_version(tmp_path: Path) -> None:
    (tmp_path / "rules.py").write_text("a = 1")
    first = version("1.0.0", "rules: []", tmp_path)
    assert first.startswith("1.0.0+")
    assert version("1.0.0", "rules: []", tmp_path) == first
    assert version("1.0.0", "rules: [x]", tmp_path) != first
    (tmp_path / "rules.py").write_text("a = 2")
    assert version("1.0.0", "rules: []", tmp_path) != first
