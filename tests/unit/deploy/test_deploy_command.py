"""The command line itself: what it says, how it ends, what it needs."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from deploy.local import lifecycle
from deploy.local.bootstrap import _is_light
from deploy.local.cli import VERB_MODULES, build_parser, main
from deploy.local.errors import NOT_RUNNING, CommandError
from deploy.local.layout import CHECKOUT
from deploy.local.lifecycle import NotReadyError
from deploy.local.stack import Stack
from deploy.local.tail import show_logs
from deploy.local.verbs_test import has_paths, pytest_command


def test_parser_is_built_without_any_third_party_package() -> None:
    # -S: no site-packages, as on a machine where nothing is installed yet.
    code = "from deploy.local.cli import build_parser; build_parser()"
    env = {"PYTHONPATH": str(CHECKOUT), "PATH": os.environ["PATH"]}
    done = subprocess.run(
        [sys.executable, "-S", "-c", code], env=env, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


def test_every_verb_has_help(capsys: pytest.CaptureFixture[str]) -> None:
    parser = build_parser()
    assert parser.format_help()
    for verb in ("up", "down", "status", "logs", "doctor", "test"):
        with pytest.raises(SystemExit) as leaving:
            parser.parse_args([verb, "--help"])
        assert leaving.value.code == 0
        assert f"tillstream {verb}" in capsys.readouterr().out


def test_unknown_verb_is_wrong_usage() -> None:
    with pytest.raises(SystemExit) as leaving:
        main(["fly"])
    assert leaving.value.code == 2


def test_verb_modules_are_listed_once() -> None:
    assert len(set(VERB_MODULES)) == len(VERB_MODULES)


def test_stack_that_does_not_run_is_exit_code_three(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TILLSTREAM_HOME", str(tmp_path))
    with pytest.raises(CommandError) as failure:
        Stack.require()
    assert failure.value.exit_code == NOT_RUNNING


def test_down_without_a_stack_is_no_failure_and_makes_no_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TILLSTREAM_HOME", str(tmp_path / "home"))
    assert main(["down"]) == 0
    assert not (tmp_path / "home").exists()


def test_logs_of_an_unknown_service_are_wrong_usage(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("TILLSTREAM_HOME", str(tmp_path))
    assert main(["logs", "nobody"]) == 2
    assert "no such service: nobody" in capsys.readouterr().err


@pytest.mark.parametrize("words", [[], ["--help"], ["load", "--help"], ["doctor"], ["status", "--json"]])
def test_verbs_that_need_no_installation(words: list[str]) -> None:
    assert _is_light(words)


def test_verbs_that_do_need_it() -> None:
    assert not _is_light(["up", "--detach"])


def test_test_runs_every_folder_in_order_without_the_long_ones(tmp_path: Path) -> None:
    for name in ("unit", "e2e"):
        (tmp_path / "tests" / name).mkdir(parents=True)
    command = pytest_command(long=False, extra=["-x"], checkout=tmp_path)
    assert command[3:] == ["-m", "not long", "tests/unit", "tests/e2e", "-x"]
    assert "-m" not in pytest_command(long=True, extra=[], checkout=tmp_path)[3:]


def test_test_with_paths_runs_only_those(tmp_path: Path) -> None:
    (tmp_path / "tests" / "unit").mkdir(parents=True)
    assert has_paths(["tests/unit::test_a", "-x"], tmp_path)
    assert pytest_command(long=True, extra=["tests/unit"], checkout=tmp_path)[3:] == ["tests/unit"]


def test_last_lines_of_several_logs_carry_their_names(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "a.log").write_text("1\n2\n3\n")
    show_logs({"a": tmp_path / "a.log", "b": tmp_path / "b.log"}, 2, follow=False)
    assert capsys.readouterr().out.split() == ["a", "2", "a", "3"]


def test_graph_runs_each_task_after_its_needs() -> None:
    order: list[str] = []
    tasks: dict[str, lifecycle.Task] = {
        "c": (("a", "b"), lambda: order.append("c")),
        "a": ((), lambda: order.append("a")),
        "b": (("a",), lambda: order.append("b")),
    }
    assert lifecycle._run_graph(tasks, threading.Event()) == []
    assert order == ["a", "b", "c"]


def fail(name: str) -> None:
    raise NotReadyError(name, f"{name} failed")


def test_failed_service_is_returned_and_the_others_start() -> None:
    started: list[str] = []
    tasks: dict[str, lifecycle.Task] = {
        "quality": ((), lambda: fail("quality")),
        "enrich": ((), lambda: started.append("enrich")),
    }
    failures = lifecycle._run_graph(tasks, threading.Event())
    assert [failure.name for failure in failures] == ["quality"]
    assert started == ["enrich"]


def test_failed_server_ends_what_is_still_starting() -> None:
    given_up = threading.Event()
    tasks: dict[str, lifecycle.Task] = {
        "kafka": ((), lambda: fail("kafka")),
        "lake": ((), lambda: None if given_up.wait(10) else fail("lake")),
    }
    with pytest.raises(NotReadyError, match="kafka failed"):
        lifecycle._run_graph(tasks, given_up)
    assert given_up.is_set()


def test_doors_stop_before_the_chain_and_servers_stop_last() -> None:
    tiers = lifecycle._stop_tiers(["kafka", "lake", "query", "ingest", "quality", "postgres"])
    assert tiers == [["query", "ingest"], ["lake", "quality"], ["kafka", "postgres"]]
