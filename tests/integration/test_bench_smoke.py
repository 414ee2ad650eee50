"""The benchmarks' own stage on a real broker: small, so that what is compared is known to be compared."""

from __future__ import annotations

import dataclasses
import sys
import time
from pathlib import Path

import pytest

from bench.cli import main
from bench.harness.broker import Broker
from bench.workloads.stage_input import fill
from bench.workloads.stage_runs import killed_run, timed_run
from deploy.local.errors import CommandError
from deploy.local.testing import Servers

OURS = [sys.executable, "-m", "bench.peers.tillstream_stage"]

pytestmark = pytest.mark.long


def test_the_command_measures_ours_and_the_plain_loop(
    stack: Servers, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ["--dry", "--events", "6000", "--rounds", "1", "--peers", "tillstream,plain"]
    assert main(["stage_transform", *options, "--kafka", stack.kafka]) == 0
    assert "| Tillstream | exactly once |" in capsys.readouterr().out


def test_a_run_with_another_output_is_void(stack: Servers, tmp_path: Path) -> None:
    kafka, name = Broker(stack.kafka, None), f"bench.smoke.{time.time_ns():x}"
    given = fill(kafka, name, 4_000, partitions=3)
    try:
        good = given.config(kafka, f"{name}.good", tmp_path, commit_every=1_000)
        assert timed_run(kafka, OURS, given, good).records == 4_000
        other = dataclasses.replace(given, expected="0" * 64)
        bad = other.config(kafka, f"{name}.bad", tmp_path, commit_every=1_000)
        with pytest.raises(CommandError, match="differs from the expected one; the run is void"):
            timed_run(kafka, OURS, other, bad)
    finally:
        kafka.delete_all_of(name)


def test_killed_with_durable_ids_ours_loses_and_doubles_nothing(stack: Servers, tmp_path: Path) -> None:
    kafka, name = Broker(stack.kafka, None), f"bench.smoke.{time.time_ns():x}"
    given = fill(kafka, name, 30_000, partitions=3)
    try:
        config = given.config(kafka, f"{name}.killed", tmp_path, commit_every=500, durable=True)
        survived = killed_run(kafka, OURS, given, config, kills=2)
        assert (survived.kills, survived.lost, survived.doubled, survived.foreign) == (2, 0, 0, 0)
    finally:
        kafka.delete_all_of(name)
