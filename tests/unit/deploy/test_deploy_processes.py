"""Processes of a home are found, tied to their parent, and ended."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from deploy.local import processes
from deploy.local.layout import STACK_MARK, Layout

LAUNCH = Path(processes.__file__).with_name("launch.py")


def wait_for(condition: Callable[[], bool], timeout_s: float = 10) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, "the condition did not come true"
        time.sleep(0.02)


def spec(folder: Path, command: list[str], **changes: object) -> Path:
    path = folder / "spec.json"
    document = {
        "command": command,
        "cwd": str(folder),
        "env": {"ONLY": "this"},
        "uid": None,
        "umask": 0o022,
        "death_signal": "SIGTERM",
        **changes,
    }
    path.write_text(json.dumps(document))
    return path


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    return Layout(tmp_path / "home", tmp_path / "tools").create()


def test_marked_process_and_its_children_without_the_mark_are_found_and_ended(layout: Layout) -> None:
    env = {STACK_MARK: str(layout.home), "PATH": os.environ["PATH"]}
    parent = subprocess.Popen(["sh", "-c", "env -i sleep 60 & wait"], env=env)
    try:
        wait_for(lambda: len(processes.of_home(layout)) >= 2)
        assert parent.pid in processes.of_home(layout)
        # The parent is a zombie until somebody waits for it, and a zombie counts as gone.
        assert processes.end_all(partial(processes.of_home, layout), grace_s=5) == set()
        assert processes.of_home(layout) == set()
    finally:
        parent.kill()
        parent.wait()


def test_process_of_another_home_is_left_alone(layout: Layout) -> None:
    other = subprocess.Popen(["sleep", "60"], env={STACK_MARK: f"{layout.home}-other"})
    try:
        assert other.pid not in processes.of_home(layout)
    finally:
        other.kill()
        other.wait()


def test_process_that_ignores_term_is_killed(layout: Layout) -> None:
    env = {STACK_MARK: str(layout.home), "PATH": os.environ["PATH"]}
    script = "trap '' TERM; echo set; while :; do sleep 0.05; done"
    stubborn = subprocess.Popen(["sh", "-c", script], env=env, stdout=subprocess.PIPE)
    try:
        assert stubborn.stdout is not None
        stubborn.stdout.readline()
        assert processes.end_all(partial(processes.of_home, layout), grace_s=0.3) == set()
        assert stubborn.wait(timeout=5) == -signal.SIGKILL
    finally:
        stubborn.kill()


def test_launched_program_sees_exactly_its_environment(tmp_path: Path) -> None:
    path = spec(tmp_path, ["/usr/bin/env"])
    done = subprocess.run(
        [sys.executable, "-I", "-S", str(LAUNCH), str(path)], capture_output=True, text=True, check=True
    )
    assert done.stdout == "ONLY=this\n"


def test_launched_program_ends_with_the_process_that_started_it(tmp_path: Path) -> None:
    path = spec(tmp_path, ["/bin/sleep", "60"])
    launch = f"{sys.executable} -I -S {LAUNCH} {path}"
    parent = subprocess.Popen(["sh", "-c", f"{launch} & echo $!; wait"], stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    child = int(parent.stdout.readline())
    wait_for(lambda: Path(f"/proc/{child}/comm").read_text() == "sleep\n")
    parent.kill()
    parent.wait()
    wait_for(lambda: not processes.alive(child))


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can change users")
def test_launched_program_gives_up_root_and_still_ends_with_its_parent(tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    path = spec(tmp_path, ["/bin/sleep", "60"], cwd="/", uid=65534)
    launch = f"{sys.executable} -I -S {LAUNCH} {path}"
    parent = subprocess.Popen(["sh", "-c", f"{launch} & echo $!; wait"], stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    child = int(parent.stdout.readline())
    wait_for(lambda: Path(f"/proc/{child}/comm").read_text() == "sleep\n")
    status = dict(line.split(":\t", 1) for line in Path(f"/proc/{child}/status").read_text().splitlines())
    assert status["Uid"].split() == status["Gid"].split() == ["65534"] * 4
    assert status["Groups"].strip() == ""
    parent.kill()
    parent.wait()
    wait_for(lambda: not processes.alive(child))
