"""CPU time of processes, from Linux's /proc."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

_PROC = Path("/proc")
_TICKS = os.sysconf("SC_CLK_TCK")


def cpu_s(pid: int) -> float:
    """User and system time of a process with all its threads, and of children that have ended, in seconds;
    0 where there is no such process."""
    fields = _stat(pid)
    return sum(map(int, fields[11:15])) / _TICKS if fields else 0.0


def tree_cpu_s(root: int) -> float:
    """`cpu_s` of a process and of all its living descendants."""
    return sum(map(cpu_s, descendants([root])))


def descendants(roots: Iterable[int]) -> set[int]:
    """These processes and all below them."""
    parents = {pid: parent_of(pid) for pid in pids()}
    found, frontier = set[int](), set(roots)
    while frontier:
        found |= frontier
        frontier = {pid for pid, parent in parents.items() if parent in frontier} - found
    return found


def pids() -> list[int]:
    return [int(entry.name) for entry in _PROC.iterdir() if entry.name.isdecimal()]


def parent_of(pid: int) -> int:
    fields = _stat(pid)
    return int(fields[1]) if fields else 0


def peak_memory_mib(pid: int) -> float:
    """The largest resident size so far; 0 where there is no such process."""
    try:
        text = (_PROC / str(pid) / "status").read_text()
    except OSError:
        return 0.0
    line = next((line for line in text.splitlines() if line.startswith("VmHWM:")), "VmHWM: 0 kB")
    return int(line.split()[1]) / 1024


def _stat(pid: int) -> list[str]:
    """The fields from `state` on, after the name in parentheses: proc(5)."""
    try:
        return (_PROC / str(pid) / "stat").read_text().rpartition(")")[2].split()
    except OSError:
        return []
