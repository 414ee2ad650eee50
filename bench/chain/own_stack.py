"""A platform for one benchmark: brought up by the real command in a home of its own, and taken down again."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from bench.harness.procfs import tree_cpu_s
from deploy.local.errors import CommandError
from deploy.local.layout import Layout
from deploy.local.ports import free_base
from deploy.local.supervision import Supervisor
from deploy.local.testing import Platform, run_command, temporary_home

_UP_S: Final = 900.0
THIS: Final = "the benchmark itself"


@contextmanager
def own_platform() -> Iterator[Platform]:
    """`./tillstream up --detach`, with a new home and free ports; `down` at the end, whatever happened."""
    tools = Layout.from_environment().tools
    with temporary_home("bench") as home:
        env = {
            **os.environ,
            "TILLSTREAM_HOME": str(home),
            "TILLSTREAM_TOOLS": str(tools),
            "TILLSTREAM_PORT_BASE": str(free_base().base),
            "TILLSTREAM_PYTHON": sys.executable,
        }
        try:
            done = run_command(env, "up", "--detach", "--json", timeout_s=_UP_S)
            if done.returncode != 0:
                raise CommandError(f"the platform did not start: {done.stderr.strip()[-500:]}")
            found = json.loads(done.stdout)
            yield Platform(home, found["urls"], Path(found["lake"]), env)
        finally:
            run_command(env, "down")


def cpu_by_process(home: Path) -> dict[str, float]:
    """CPU seconds so far of every process of the platform, children included, and of this benchmark."""
    layout = Layout(home, home)
    found = {
        name: tree_cpu_s(process.pid)
        for name, process in Supervisor(layout).processes().items()
        if process.pid is not None
    }
    return {**found, THIS: tree_cpu_s(os.getpid())}


def cpu_used(before: Mapping[str, float], after: Mapping[str, float]) -> dict[str, float]:
    """By process, largest first. One that was started again in between counts from its new start."""
    used = {
        name: value - before[name] if value >= before.get(name, value) and name in before else value
        for name, value in after.items()
    }
    return dict(sorted(used.items(), key=lambda item: -item[1]))
