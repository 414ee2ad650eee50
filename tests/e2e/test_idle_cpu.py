"""The whole stack, with nothing to do, leaves the machine to others."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from deploy.local.layout import Layout
from deploy.local.processes import of_home
from tests.e2e.conftest import Probe

_WARM_UP_S = 60.0
_MEASURED_S = 60.0
_CORES = 0.25


def cpu_seconds(pids: list[int]) -> dict[int, tuple[str, float]]:
    """Command and CPU time, user and system, of each process that still runs."""
    found = {}
    for pid in pids:
        try:
            command = Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode()[:100]
            fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
        except OSError:
            continue
        ticks = int(fields[11]) + int(fields[12])
        found[pid] = (command, ticks / os.sysconf("SC_CLK_TCK"))
    return found


@pytest.mark.long
def test_idle_stack_takes_less_than_a_quarter_of_a_core(probe: Probe) -> None:
    layout = Layout(probe.platform.home, probe.platform.home)
    # The JVMs still compile what the start and the tests before this one have warmed.
    time.sleep(_WARM_UP_S)
    before, began = cpu_seconds(list(of_home(layout))), time.monotonic()
    time.sleep(_MEASURED_S)
    after, took_s = cpu_seconds(list(of_home(layout))), time.monotonic() - began
    used = {
        pid: (command, (seconds - before.get(pid, ("", 0.0))[1]) / took_s)
        for pid, (command, seconds) in after.items()
    }
    for command, cores in sorted(used.values(), key=lambda row: -row[1]):
        print(f"{cores:.4f}  {command}")
    total = sum(cores for _, cores in used.values())
    print(f"{total:.4f}  in all")
    assert len(used) > 10
    assert total < _CORES
