"""supervisord: its configuration, its start, and the calls that we make to it.

Restarts are supervisord's: a program that ends before its `min_uptime_s` is tried again after 1, 2, 3 and 4
seconds, and after the fifth failed start in a row it stays down (FATAL); one that ends later is started again
at once.
"""

from __future__ import annotations

import http.client
import os
import re
import resource
import shlex
import subprocess
import sys
import time
import xmlrpc.client
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from deploy.local.errors import CommandError
from deploy.local.layout import STACK_MARK, Layout, write_private
from deploy.local.machine import is_root
from deploy.local.program import Program

FAILED_STARTS = 5
_LAUNCH = Path(__file__).with_name("launch.py")
_WANTED_FILES = 8192


@dataclass(frozen=True)
class Process:
    """What supervisord says about one program; `state` in its own words (RUNNING, BACKOFF, FATAL ...)."""

    name: str
    state: str
    pid: int | None


def config(layout: Layout, programs: Iterable[Program]) -> str:
    """supervisord.conf. A percent sign is doubled, because the format expands it."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    files = max(soft, _WANTED_FILES if hard == resource.RLIM_INFINITY else min(hard, _WANTED_FILES))
    lines = [
        "[supervisord]",
        f"logfile={_escape(layout.supervisor_log)}",
        "logfile_maxbytes=10MB",
        "logfile_backups=2",
        "loglevel=info",
        f"pidfile={_escape(layout.supervisor_pid)}",
        f"childlogdir={_escape(layout.logs)}",
        f"directory={_escape(layout.run)}",
        "identifier=tillstream",
        f"minfds={files}",
        "umask=022",
        *(["user=root"] if is_root() else []),
        "[unix_http_server]",
        f"file={_escape(layout.socket)}",
        "chmod=0700",
        "[rpcinterface:supervisor]",
        "supervisor.rpcinterface_factory = supervisor.rpcinterface:make_main_rpcinterface",
    ]
    for program in programs:
        lines += _section(layout, program)
    return "\n".join(lines) + "\n"


def _section(layout: Layout, program: Program) -> list[str]:
    spec = layout.programs / f"{program.name}.json"
    # -I -S: the launcher needs the standard library only, and starts in 15 ms without the rest.
    command = shlex.join([sys.executable, "-I", "-S", str(_LAUNCH), str(spec)])
    return [
        f"[program:{program.name}]",
        f"command={_escape(command)}",
        "autostart=false",
        "autorestart=true",
        f"startsecs={program.min_uptime_s}",
        # supervisord gives up when the count of failed starts in a row exceeds this.
        f"startretries={FAILED_STARTS - 1}",
        f"stopsignal={program.stop_signal}",
        f"stopwaitsecs={program.stop_within_s}",
        "killasgroup=true",
        "redirect_stderr=true",
        f"stdout_logfile={_escape(log_file(layout, program.name))}",
        "stdout_logfile_maxbytes=20MB",
        "stdout_logfile_backups=2",
    ]


def log_file(layout: Layout, name: str) -> Path:
    return layout.logs / f"{name}.log"


def _escape(value: object) -> str:
    return str(value).replace("%", "%%")


class Supervisor:
    """Client of one home's supervisord. Every call opens its own connection, so threads may share it."""

    def __init__(self, layout: Layout) -> None:
        self._layout = layout

    def is_up(self) -> bool:
        """Whether it answers. Never raises."""
        if not self._layout.supervisor_pid.exists():
            return False
        try:
            return str(self._call("getState")["statename"]) == "RUNNING"
        except (OSError, xmlrpc.client.Error, http.client.HTTPException):
            return False

    def start(self, programs: Iterable[Program]) -> None:
        """Write configuration and start supervisord in the background; nothing else starts yet."""
        layout = self._layout
        chosen = tuple(programs)
        for program in chosen:
            program.write_spec(layout)
        write_private(layout.supervisor_config, config(layout, chosen))
        layout.socket.unlink(missing_ok=True)
        if layout.supervisor_log.exists():
            # Events are counted per run of the stack.
            layout.supervisor_log.replace(layout.supervisor_log.with_name("supervisord.previous.log"))
        command = [sys.executable, "-m", "supervisor.supervisord", "-c", str(layout.supervisor_config)]
        env = {"PATH": os.environ.get("PATH", os.defpath), STACK_MARK: str(layout.home)}
        done = subprocess.run(
            command, env=env, capture_output=True, text=True, stdin=subprocess.DEVNULL, check=False
        )
        deadline = time.monotonic() + 15
        while done.returncode == 0 and time.monotonic() < deadline:
            if self.is_up():
                return
            time.sleep(0.05)
        reason = (done.stderr or done.stdout).strip().splitlines()
        raise CommandError(f"supervisord did not start: {reason[-1] if reason else layout.supervisor_log}")

    def start_program(self, name: str) -> None:
        self._call("startProcess", name, False)

    def stop_program(self, name: str) -> None:
        """Ask it to stop; returns at once. One that does not run is left alone."""
        try:
            self._call("stopProcess", name, False)
        except xmlrpc.client.Fault as fault:
            if "NOT_RUNNING" not in fault.faultString:
                raise

    def processes(self) -> dict[str, Process]:
        return {info["name"]: _process(info) for info in self._call("getAllProcessInfo")}

    def process(self, name: str) -> Process:
        return _process(self._call("getProcessInfo", name))

    def shutdown(self) -> None:
        self._call("shutdown")

    def pid(self) -> int | None:
        try:
            return int(self._layout.supervisor_pid.read_text())
        except (OSError, ValueError):
            return None

    def _call(self, method: str, *arguments: object) -> Any:
        """Raises OSError where nobody listens, xmlrpc.client.Fault where supervisord refuses."""
        from supervisor.xmlrpc import SupervisorTransport

        transport = SupervisorTransport(None, None, f"unix://{self._layout.socket}")
        with xmlrpc.client.ServerProxy("http://127.0.0.1", transport=transport) as proxy:
            return getattr(proxy.supervisor, method)(*arguments)


def _process(info: dict[str, object]) -> Process:
    pid = info["pid"]
    return Process(str(info["name"]), str(info["statename"]), pid if isinstance(pid, int) and pid else None)


@dataclass(frozen=True)
class Exit:
    """One unasked end of a program, as supervisord logged it."""

    at: str
    name: str
    how: str


_EXIT = re.compile(r"^(\S+ \S+?),\d+ \w+ exited: (\S+) \((.*)\)$")
_SPAWN = re.compile(r"^\S+ \S+ \w+ spawned: '(\S+)' with pid \d+$")


def exits(layout: Layout) -> list[Exit]:
    """Every end of a program that nobody asked for, oldest first, since the stack was started."""
    return [Exit(*match.groups()) for line in _log_lines(layout) if (match := _EXIT.match(line))]


def restarts(layout: Layout) -> dict[str, int]:
    """How often each program was started again since the stack was started."""
    counts: dict[str, int] = {}
    for line in _log_lines(layout):
        if match := _SPAWN.match(line):
            counts[match[1]] = counts.get(match[1], -1) + 1
    return counts


def _log_lines(layout: Layout) -> list[str]:
    try:
        return layout.supervisor_log.read_text(errors="replace").splitlines()
    except OSError:
        return []
