"""What the benchmarks' harness measures and writes."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from bench import cli
from bench.catalogue import NAMES
from bench.harness import results
from bench.harness.machine import describe, locked_version
from bench.harness.procfs import tree_cpu_s
from bench.harness.runs import measure, running
from bench.peers.protocol import Config
from bench.workloads.stage_peers import PEERS, chosen
from deploy.local.cli import main
from deploy.local.errors import CommandError
from deploy.local.verbs_bench import WORKLOADS

SPEAKING_PEER = """
import json, sys
from bench.peers.protocol import Config, Reporter
config = Config.read(sys.argv[1])
reporter = Reporter(config)
print("what is no event is passed over", flush=True)
for _ in range(config.records):
    reporter.add()
sum(range(8_000_000))
reporter.end()
"""


def config(tmp_path: Path, **given: Any) -> Config:
    fields: dict[str, Any] = {
        "bootstrap": "",
        "topic_in": "in",
        "topic_out": "out",
        "topic_decisions": "decisions",
        "group": "g",
        "state": str(tmp_path),
        "reference": "",
        "records": 10,
        "ends": {0: 4, 2: 6},
        **given,
    }
    return Config(**fields)


def test_configuration_survives_its_file(tmp_path: Path) -> None:
    config(tmp_path).write(tmp_path / "c.json")
    assert Config.read(str(tmp_path / "c.json")) == config(tmp_path)


def test_a_peer_is_measured_between_its_first_record_and_its_end(tmp_path: Path) -> None:
    command = [sys.executable, "-c", SPEAKING_PEER]
    with running(command, config(tmp_path), tmp_path, "peer") as process:
        measured = measure(process, 30.0)
    assert measured.records == 10
    assert measured.cpu_s > 0.02
    assert measured.wall_s >= measured.cpu_s * 0.5
    assert measured.before_cpu_s >= 0


def test_a_peer_that_dies_is_told_with_what_it_said(tmp_path: Path) -> None:
    command = [sys.executable, "-c", "raise SystemExit('no such broker')"]
    with (
        running(command, config(tmp_path), tmp_path, "peer") as process,
        pytest.raises(CommandError, match=r"ended before 'start'.*\n.*no such broker"),
    ):
        measure(process, 30.0)


def test_cpu_of_children_that_live_and_that_ended_is_counted() -> None:
    burn = "import subprocess, sys; subprocess.run([sys.executable, '-c', 'sum(range(10_000_000))'])"
    code = f"{burn}; print(flush=True); input()"
    with subprocess.Popen([sys.executable, "-c", code], stdin=-1, stdout=-1) as process:
        assert process.stdout is not None
        process.stdout.readline()
        assert tree_cpu_s(process.pid) > 0.05
        process.kill()


def test_cpu_of_no_process_is_zero() -> None:
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    assert tree_cpu_s(ended.pid) == 0.0
    before = tree_cpu_s(os.getpid())
    deadline = time.monotonic() + 10
    while tree_cpu_s(os.getpid()) <= before and time.monotonic() < deadline:
        sum(range(100_000))
    assert tree_cpu_s(os.getpid()) > before


def test_results_are_kept_by_workload_and_the_page_holds_all_of_them(tmp_path: Path) -> None:
    def result(name: str, figure: str) -> results.Result:
        table = results.Table("Figures", ("peer", "events/s"), [("ours | theirs", figure)])
        return results.Result(name, f"{name}: title", describe(), {"records": 1000}, [table], ["a note"])

    page = tmp_path / "RESULTS.md"
    for name, figure in (("first", "1"), ("second", "2"), ("first", "3")):
        results.save(result(name, figure), tmp_path / "results", page)
    text = page.read_text()
    assert "| ours \\| theirs | 3 |" in text
    assert "| ours \\| theirs | 2 |" in text
    assert "| 1 |" not in text
    assert "records 1,000." in text
    assert [each.workload for each in results.load(tmp_path / "results")] == ["first", "second"]


def test_spread_is_minimum_median_and_maximum() -> None:
    assert results.spread([3_000.4, 1_000, 2_000]) == "1,000 / 2,000 / 3,000"
    assert results.spread([0.25], 2) == "0.25 / 0.25 / 0.25"


def test_the_list_of_the_command_is_the_catalogue(capsys: pytest.CaptureFixture[str]) -> None:
    assert tuple(WORKLOADS) == NAMES
    assert main(["bench", "--list"]) == 0
    assert [line.split()[0] for line in capsys.readouterr().out.splitlines()] == list(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_every_benchmark_has_help(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as leaving:
        cli.main([name, "--help"])
    assert leaving.value.code == 0
    assert f"tillstream bench {name}" in capsys.readouterr().out


def test_an_unknown_benchmark_or_peer_is_wrong_usage() -> None:
    with pytest.raises(SystemExit) as leaving:
        main(["bench", "nothing"])
    assert leaving.value.code == 2
    with pytest.raises(CommandError, match="no such peer: flink"):
        chosen("tillstream,flink")
    assert [peer.name for peer in chosen("quix")] == ["quix"]


def test_every_peer_names_its_version_and_its_guarantee() -> None:
    assert all(peer.title() and peer.guarantee and peer.tuning for peer in PEERS)


def test_a_lock_without_the_package_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "x.lock").write_text("bytewax==0.21.1 \\\n    --hash=sha256:00\n")
    assert locked_version(tmp_path / "x.lock", "bytewax") == "0.21.1"
    with pytest.raises(ValueError, match="holds no quix"):
        locked_version(tmp_path / "x.lock", "quix")
