"""Supervision with real supervisord and small stand-in programs; PostgreSQL and Valkey for real."""

from __future__ import annotations

import os
import signal
import socket
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pytest

from deploy.local import lifecycle, probes, processes, toolchain
from deploy.local.errors import CommandError
from deploy.local.java import Java
from deploy.local.layout import Layout
from deploy.local.ports import free_base
from deploy.local.program import Program
from deploy.local.progress import Steps
from deploy.local.stack import Stack
from deploy.local.status import status
from deploy.local.supervision import Supervisor
from deploy.local.testing import run_command, temporary_home, tools_folder

_SERVE = """
import socketserver, sys
# As real servers do: a connection that its killed predecessor left in TIME_WAIT does not hold the port.
socketserver.TCPServer.allow_reuse_address = True
socketserver.TCPServer(("127.0.0.1", int(sys.argv[1])), socketserver.BaseRequestHandler).serve_forever()
"""
_CRASH = "raise SystemExit('out of order')"


@dataclass(frozen=True)
class StandIns(Stack):
    """A stack whose programs listen and do nothing, except those named in `broken`, which end at once."""

    broken: tuple[str, ...] = ()

    def program(self, name: str) -> Program:
        port = self.ports[name]
        script = _CRASH if name in self.broken else _SERVE
        return Program(
            name=name,
            title=name,
            command=(sys.executable, "-c", script, str(port)),
            probe=partial(probes.listening, port),
            min_uptime_s=15 if name in self.broken else 1,
        )


@contextmanager
def stand_ins(*names: str, broken: tuple[str, ...] = ()) -> Iterator[StandIns]:
    with temporary_home("supervision") as home:
        layout = Layout(home, tools_folder()).create()
        stack = StandIns(layout, free_base(names), Java(Path("/none")), names, broken)
        try:
            yield stack
        finally:
            with Steps() as steps:
                lifecycle.down(layout, steps)


def start(stack: Stack) -> None:
    with Steps() as steps:
        lifecycle.up(stack, steps)


def wait_for(condition: Callable[[], bool], timeout_s: float = 90) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, "the condition did not come true"
        time.sleep(0.1)


def pid_of(stack: Stack, name: str) -> int:
    service = status(stack).service(name)
    assert service is not None
    assert service.pid is not None
    return service.pid


def test_killed_service_is_started_again_and_reported() -> None:
    with stand_ins("quality", "enrich") as stack:
        start(stack)
        killed, other = pid_of(stack, "quality"), pid_of(stack, "enrich")
        # Past its start-up time, so that this is the death of a running service.
        wait_for(lambda: Supervisor(stack.layout).process("quality").state == "RUNNING")
        os.kill(killed, signal.SIGKILL)
        wait_for(lambda: status(stack).ready and pid_of(stack, "quality") != killed)
        service = status(stack).service("quality")
        assert service is not None
        assert service.restarts == 1
        assert "SIGKILL" in str(service.last_exit)
        assert pid_of(stack, "enrich") == other


def test_service_that_cannot_start_is_failed_after_five_starts_and_the_others_run_on() -> None:
    with stand_ins("quality", "enrich", broken=("quality",)) as stack:
        with pytest.raises(CommandError, match="quality failed to start five times: out of order") as failure:
            start(stack)
        assert "\n" not in str(failure.value)
        found = status(stack)
        assert {service.name: service.state for service in found.services} == {
            "quality": "failed",
            "enrich": "ready",
        }
        service = found.service("quality")
        assert service is not None
        assert service.restarts == 4


def test_down_leaves_no_process_behind() -> None:
    with stand_ins("quality", "enrich") as stack:
        start(stack)
        assert len(processes.of_home(stack.layout)) == 3
        with Steps() as steps:
            assert lifecycle.down(stack.layout, steps)
        assert processes.of_home(stack.layout) == set()
        assert not Supervisor(stack.layout).is_up()


def test_services_end_with_supervisord() -> None:
    with stand_ins("quality", "enrich") as stack:
        start(stack)
        supervisord = Supervisor(stack.layout).pid()
        assert supervisord is not None
        os.kill(supervisord, signal.SIGKILL)
        wait_for(lambda: processes.of_home(stack.layout) == set())


def test_up_after_a_crash_of_supervisord_works() -> None:
    with stand_ins("quality") as stack:
        start(stack)
        supervisord = Supervisor(stack.layout).pid()
        assert supervisord is not None
        os.kill(supervisord, signal.SIGKILL)
        start(stack)
        assert status(stack).ready


def test_taken_port_gives_one_line_and_starts_nothing() -> None:
    with stand_ins("quality", "enrich") as stack, socket.create_server(("127.0.0.1", stack.ports["enrich"])):
        with pytest.raises(
            CommandError, match=rf"port {stack.ports['enrich']} \(enrich\) is taken"
        ) as failure:
            start(stack)
        assert "\n" not in str(failure.value)
        assert processes.of_home(stack.layout) == set()


def test_two_stacks_run_side_by_side_and_one_down_leaves_the_other() -> None:
    with stand_ins("quality") as first, stand_ins("enrich") as second:
        start(first)
        start(second)
        with Steps() as steps:
            lifecycle.down(first.layout, steps)
        assert status(second).ready


def test_command_says_in_one_line_that_a_port_is_taken() -> None:
    ports = free_base()
    with temporary_home("taken") as home, socket.create_server(("127.0.0.1", ports["kafka"])):
        env = {**os.environ, "TILLSTREAM_HOME": str(home), "TILLSTREAM_TOOLS": str(tools_folder())}
        done = run_command(env, "up", "--detach", "--json", "--port-base", str(ports.base), timeout_s=900)
    assert done.returncode == 1
    assert done.stdout == ""
    lines = [line for line in done.stderr.splitlines() if line.startswith("tillstream: port")]
    assert len(lines) == 1
    assert str(ports["kafka"]) in lines[0]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root has to give up its rights")
def test_postgres_starts_under_a_home_that_other_users_cannot_enter() -> None:
    with temporary_home("closed") as outer:
        outer.chmod(0o700)
        layout = Layout(outer / "home", tools_folder()).create()
        with Steps() as steps:
            java = toolchain.ensure(layout, steps)
        stack = Stack.build(layout, free_base(["postgres", "redis"]), java, ["postgres", "redis"])
        try:
            start(stack)
            assert status(stack).ready
            with Steps() as steps:
                lifecycle.down(layout, steps)
            # The data of the first run is found again.
            start(stack)
            assert status(stack).ready
        finally:
            with Steps() as steps:
                lifecycle.down(layout, steps)
