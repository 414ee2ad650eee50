"""Which processes belong to a home, and how to end those that outlive supervisord."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterable
from pathlib import Path

from deploy.local.layout import STACK_MARK, Layout
from deploy.local.server_postgres import data_folder

_PROC = Path("/proc")


def alive(pid: int) -> bool:
    """Running or at least not yet a zombie."""
    try:
        text = (_PROC / str(pid) / "stat").read_text()
    except OSError:
        return False
    return text.rpartition(")")[2].split()[0] != "Z"


def started_s_ago(pid: int) -> float | None:
    """Age of a process in seconds, None when it is gone."""
    try:
        ticks = int((_PROC / str(pid) / "stat").read_text().rpartition(")")[2].split()[19])
        uptime = float((_PROC / "uptime").read_text().split()[0])
    except (OSError, ValueError, IndexError):
        return None
    return max(0.0, uptime - ticks / os.sysconf("SC_CLK_TCK"))


def of_home(layout: Layout) -> set[int]:
    """Every living process of this home's stack.

    Found by the mark in its environment, by descent from such a process (PostgreSQL overwrites its own
    environment with its title), and by PostgreSQL's lock file.
    """
    mark = f"{STACK_MARK}={layout.home}".encode()
    parents: dict[int, int] = {}
    found: set[int] = set()
    for entry in _PROC.iterdir():
        if not entry.name.isdecimal() or not alive(pid := int(entry.name)):
            continue
        parents[pid] = _parent(pid)
        if mark in _environment(pid):
            found.add(pid)
    found |= {pid for pid in _postmasters(layout) if pid in parents}
    return (found | _descendants(found, parents)) - {os.getpid()}


def end_all(find: Callable[[], set[int]], grace_s: float) -> set[int]:
    """TERM, then after `grace_s` KILL, until nothing is found. Returns what could not be ended."""
    for sig, patience_s in ((signal.SIGTERM, grace_s), (signal.SIGKILL, 5.0)):
        deadline = time.monotonic() + patience_s
        signalled: set[int] = set()
        while pids := find():
            _signal(pids - signalled, sig)
            signalled |= pids
            if time.monotonic() > deadline:
                break
            time.sleep(0.1)
        else:
            return set()
    return find()


def _signal(pids: Iterable[int], sig: signal.Signals) -> None:
    for pid in pids:
        try:
            os.kill(pid, sig)
        except (ProcessLookupError, PermissionError):
            continue


def _environment(pid: int) -> list[bytes]:
    try:
        return (_PROC / str(pid) / "environ").read_bytes().split(b"\0")
    except OSError:
        return []


def _parent(pid: int) -> int:
    try:
        return int((_PROC / str(pid) / "stat").read_text().rpartition(")")[2].split()[1])
    except (OSError, ValueError, IndexError):
        return 0


def _descendants(roots: set[int], parents: dict[int, int]) -> set[int]:
    found: set[int] = set()
    frontier = roots
    while frontier:
        frontier = {pid for pid, parent in parents.items() if parent in frontier} - found
        found |= frontier
    return found


def _postmasters(layout: Layout) -> set[int]:
    """PostgreSQL's pid from its lock file, if that process really is PostgreSQL."""
    try:
        pid = int((data_folder(layout) / "postmaster.pid").read_text().split()[0])
        name = (_PROC / str(pid) / "comm").read_text().strip()
    except (OSError, ValueError, IndexError):
        return set()
    return {pid} if name == "postgres" else set()
