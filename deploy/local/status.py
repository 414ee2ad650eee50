"""The state of the stack as people and programs see it."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from deploy.local import probes
from deploy.local.layout import Layout
from deploy.local.processes import started_s_ago
from deploy.local.program import Health, Program, State
from deploy.local.stack import Stack, names_in_tree, no_urls
from deploy.local.supervision import Exit, Process, Supervisor, exits, restarts


@dataclass(frozen=True)
class ServiceStatus:
    """`lag` in unread records and `lag_seconds`, the age of the first of them: as the lag exporter measures
    them, else as the service says itself; None where it has none. `p50_ms`, `p99_ms`: from acceptance to the
    service's commit, of the last minute. `restarts` since `up`."""

    name: str
    state: State
    pid: int | None = None
    lag: int | None = None
    reason: str | None = None
    restarts: int = 0
    last_exit: str | None = None
    lag_seconds: float | None = None
    p50_ms: float | None = None
    p99_ms: float | None = None


@dataclass(frozen=True)
class GroupStatus:
    """Lag of one consumer group; `exact` is False where `lag` is an upper bound."""

    group: str
    lag: int
    lag_seconds: float | None
    exact: bool


@dataclass(frozen=True)
class Status:
    running: bool
    urls: dict[str, str | None]
    lake: Path
    services: tuple[ServiceStatus, ...]
    groups: tuple[GroupStatus, ...] = ()

    @property
    def ready(self) -> bool:
        return self.running and all(service.state == "ready" for service in self.services)

    def service(self, name: str) -> ServiceStatus | None:
        return next((service for service in self.services if service.name == name), None)

    def to_json(self) -> dict[str, Any]:
        """The shape of INTERFACES' `status --json`, with more about each service, and `groups`, added."""
        return {
            "urls": self.urls,
            "lake": str(self.lake),
            "services": [vars(service) for service in self.services],
            "groups": [vars(group) for group in self.groups],
        }


def status(stack: Stack | None = None) -> Status:
    """Ask every process of the running stack at once; all `stopped` when none runs.

    Never raises for a process that does not answer.
    """
    stack = stack or Stack.current()
    if stack is None:
        stopped = tuple(ServiceStatus(name, "stopped") for name in names_in_tree())
        return Status(False, no_urls(), Layout.from_environment().lake, stopped)
    processes = Supervisor(stack.layout).processes()
    programs = stack.programs()
    with ThreadPoolExecutor(max_workers=len(programs) + 1) as pool:
        measured = pool.submit(_groups, stack)
        found = list(pool.map(lambda program: _ask(program, processes.get(program.name)), programs))
    again, ends = restarts(stack.layout), exits(stack.layout)
    groups = {group.group: group for group in measured.result()}
    services = tuple(
        ServiceStatus(
            name=program.name,
            state=health.state,
            pid=process.pid if (process := processes.get(program.name)) else None,
            lag=(own := _lag(health, groups.get(f"tillstream.{program.name}")))[0],
            lag_seconds=own[1],
            p50_ms=health.p50_ms,
            p99_ms=health.p99_ms,
            reason=health.reason,
            restarts=again.get(program.name, 0),
            last_exit=_last(ends, program.name),
        )
        for program, health in zip(programs, found, strict=True)
    )
    return Status(True, stack.urls(), stack.layout.lake, services, tuple(groups.values()))


def _groups(stack: Stack) -> list[GroupStatus]:
    if "lag" not in stack.only:
        return []
    return [
        GroupStatus(str(g["group"]), int(g["lag"]), g["lag_seconds"], bool(g["exact"]))
        for g in probes.groups(stack.ports.url("lag"))
    ]


def _lag(health: Health, group: GroupStatus | None) -> tuple[int | None, float | None]:
    """A service's consumer group is `tillstream.` and its name."""
    if group is None:
        return health.lag, health.lag_seconds
    return group.lag, group.lag_seconds


def _ask(program: Program, process: Process | None) -> Health:
    if process is None:
        return Health("stopped")
    if process.state not in ("RUNNING", "STARTING") or process.pid is None:
        return without_process(process.state)
    health = program.probe()
    age_s = started_s_ago(process.pid)
    return judge(health, age_s if age_s is not None else 0.0, program.ready_within_s)


def without_process(state: str) -> Health:
    """The state of a program that does not run, from supervisord's word for it."""
    match state:
        case "FATAL" | "UNKNOWN":
            return Health("failed", "failed to start five times in a row")
        case "BACKOFF" | "EXITED" | "STARTING":
            return Health("starting", "waiting to be started again")
        case _:
            return Health("stopped")


def judge(health: Health, age_s: float, ready_within_s: float) -> Health:
    """A process that should have been ready by now and is not is degraded, not starting."""
    if health.state == "starting" and age_s > ready_within_s:
        return replace(health, state="degraded")
    return health


def _last(ends: list[Exit], name: str) -> str | None:
    return next((f"{end.at} {end.how}" for end in reversed(ends) if end.name == name), None)
