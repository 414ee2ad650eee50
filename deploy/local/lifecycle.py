"""Bring a stack up and down.

Up, in numbered steps that the code repeats:
1. what is left of an earlier run is ended, disk and ports are checked;
2. every program's configuration and data folder is made, side by side;
3. supervisord starts, then each program and setup step as soon as what it needs is ready;
4. a server or setup step that fails takes the stack down again; a service that fails stays down alone.

Down: the doors first, then the chain, then the servers; then supervisord; then whatever is left is ended by
its pid, and nothing of this home remains.
"""

from __future__ import annotations

import fcntl
import json
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from graphlib import TopologicalSorter

from deploy.local import class_archive, machine, processes, setup
from deploy.local.errors import CommandError
from deploy.local.layout import Layout, write_private
from deploy.local.ports import require_free
from deploy.local.program import Program
from deploy.local.progress import Steps
from deploy.local.services import SERVICES
from deploy.local.stack import DEPENDENT_SERVERS, SERVERS, Stack
from deploy.local.supervision import Supervisor, log_file

# Kafka's segments, the lake and the logs of a first day.
DISK_MIB = 1024
_POLL_S = 0.15
_FATAL_POLL_S = 1.0
_LEFTOVER_GRACE_S = 20.0


@dataclass(frozen=True)
class SetupStep:
    """`needs`: what must be done before; `only_with`: the program that it is for."""

    title: str
    needs: tuple[str, ...]
    action: Callable[[Stack], None]
    only_with: str | None = None


_SETUP: Mapping[str, SetupStep] = {
    "topics": SetupStep("create topics", ("kafka",), setup.topics),
    "schemas": SetupStep("register schemas", ("registry",), setup.schemas),
    "migrate": SetupStep("migrate the database", ("postgres",), setup.migrate),
    "seed": SetupStep("fill the shop from the sample", ("migrate",), setup.seed, only_with="connectors"),
}


class NotReadyError(CommandError):
    """One program did not become ready; `name` says which."""

    def __init__(self, name: str, message: str) -> None:
        super().__init__(message)
        self.name = name


@contextmanager
def exclusive(layout: Layout, steps: Steps) -> Iterator[None]:
    """One `up` or `down` of a home at a time."""
    with (layout.run / "lifecycle.lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            steps.note("another up or down of this home is at work; waiting for it")
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


def up(stack: Stack, steps: Steps) -> None:
    """Start the stack and wait until all of it is ready.

    Raises CommandError with one clear line. After `NotReadyError` of a service the others run on; after
    anything else nothing runs.
    """
    layout = stack.layout
    _clear_the_way(stack, steps)  # 1
    supervisor = Supervisor(layout)
    try:
        class_archive.adopt(layout)
        programs = {program.name: program for program in stack.programs()}
        _prepare(programs, steps)  # 2
        supervisor.start(programs.values())  # 3
        write_private(layout.record, json.dumps(stack.record()))
        given_up = threading.Event()
        failures = _run_graph(_tasks(stack, programs, supervisor, steps, given_up), given_up)
    except BaseException:  # 4, Ctrl-C included
        steps.note("stopping what was started")
        down(layout, steps)
        raise
    if failures:
        raise failures[0]


def down(layout: Layout, steps: Steps) -> bool:
    """Stop everything of this home. Returns whether anything ran. Raises if something cannot be ended."""
    supervisor = Supervisor(layout)
    pid = supervisor.pid()
    ran = supervisor.is_up()
    if ran:
        for tier in _stop_tiers(list(supervisor.processes())):
            _stop(supervisor, tier, steps)
        supervisor.shutdown()
        _wait_until(lambda: pid is None or not processes.alive(pid), 10)
    find = partial(processes.of_home, layout)
    left = find()
    if left:
        with steps.step(f"end {len(left)} remaining processes"):
            stubborn = processes.end_all(find, _LEFTOVER_GRACE_S)
        if stubborn:
            raise CommandError(f"processes {sorted(stubborn)} could not be ended")
    for path in (layout.record, layout.supervisor_pid, layout.socket):
        path.unlink(missing_ok=True)
    return ran or bool(left)


def _clear_the_way(stack: Stack, steps: Steps) -> None:
    layout = stack.layout
    machine.require_free_disk(layout.home, DISK_MIB, "the stack's data")
    if processes.of_home(layout):
        with steps.step("end what an earlier run left"):
            processes.end_all(partial(processes.of_home, layout), _LEFTOVER_GRACE_S)
    require_free(stack.ports, stack.only)


def _prepare(programs: Mapping[str, Program], steps: Steps) -> None:
    with steps.step("prepare configuration and data folders"), ThreadPoolExecutor() as pool:
        for future in [pool.submit(program.prepare) for program in programs.values() if program.prepare]:
            future.result()


Task = tuple[tuple[str, ...], Callable[[], None]]


def _tasks(
    stack: Stack,
    programs: Mapping[str, Program],
    supervisor: Supervisor,
    steps: Steps,
    given_up: threading.Event,
) -> dict[str, Task]:
    """What to do, each with the names of what must be done before."""
    tasks: dict[str, Task] = {}
    for name, step in _SETUP.items():
        if step.only_with in (None, *programs) and all(n in programs or n in tasks for n in step.needs):
            tasks[name] = (step.needs, partial(_setup, steps, step.title, step.action, stack))
    after = {**DEPENDENT_SERVERS, **{service.name: service.after for service in SERVICES}}
    for name, program in programs.items():
        needs = tuple(need for need in after.get(name, ()) if need in tasks or need in programs)
        tasks[name] = (needs, partial(_start, supervisor, stack.layout, program, steps, given_up))
    return tasks


def _setup(steps: Steps, title: str, action: Callable[[Stack], None], stack: Stack) -> None:
    with steps.step(title):
        action(stack)


def _start(
    supervisor: Supervisor, layout: Layout, program: Program, steps: Steps, given_up: threading.Event
) -> None:
    with steps.step(f"start {program.title}"):
        supervisor.start_program(program.name)
        await_ready(supervisor, layout, program, given_up)


def await_ready(
    supervisor: Supervisor, layout: Layout, program: Program, given_up: threading.Event | None = None
) -> None:
    """Until its own probe says ready. Raises NotReadyError: it failed, took too long, or was `given_up`."""
    stop = given_up or threading.Event()
    deadline = time.monotonic() + program.ready_within_s
    next_look = time.monotonic() + _FATAL_POLL_S
    while (health := program.probe()).state != "ready":
        if time.monotonic() > next_look:
            next_look = time.monotonic() + _FATAL_POLL_S
            if supervisor.process(program.name).state == "FATAL":
                raise NotReadyError(program.name, _why(layout, program, "failed to start five times"))
        if time.monotonic() > deadline:
            what = f"was not ready within {program.ready_within_s:.0f} s"
            raise NotReadyError(program.name, _why(layout, program, f"{what} ({health.reason})"))
        if stop.wait(_POLL_S):
            raise NotReadyError(program.name, f"{program.name} was stopped before it was ready")


def _why(layout: Layout, program: Program, what: str) -> str:
    log = log_file(layout, program.name)
    lines = log.read_text(errors="replace").strip().splitlines() if log.exists() else []
    last = f": {lines[-1][:300]}" if lines else ""
    return f"{program.name} {what}{last} (./tillstream logs {program.name})"


def _run_graph(tasks: Mapping[str, Task], given_up: threading.Event) -> list[NotReadyError]:
    """Run each task as soon as its needs are done, all that can be at once.

    Returns the services that failed. Anything else that fails sets `given_up`, which ends what runs, and is
    raised; so does Ctrl-C.
    """
    sorter = TopologicalSorter({name: needs for name, (needs, _) in tasks.items()})
    sorter.prepare()
    failures: list[NotReadyError] = []
    running: dict[Future[None], str] = {}
    with ThreadPoolExecutor(max_workers=len(tasks) or 1) as pool:
        try:
            while sorter.is_active():
                running |= {pool.submit(tasks[name][1]): name for name in sorter.get_ready()}
                done, _ = wait(running, return_when=FIRST_COMPLETED)
                for future in done:
                    name = running.pop(future)
                    try:
                        future.result()
                    except NotReadyError as failure:
                        if failure.name in SERVERS:
                            raise
                        failures.append(failure)
                    # No service waits for another one, so a failed one keeps nobody back.
                    sorter.done(name)
        except BaseException:
            given_up.set()
            raise
    return failures


def _stop_tiers(names: list[str]) -> list[list[str]]:
    """Doors, then the chain, then the servers."""
    tier_of = {service.name: service.stop_tier for service in SERVICES}
    tier_of |= dict.fromkeys(DEPENDENT_SERVERS, max(tier_of.values()))
    last = max(tier_of.values()) + 1
    tiers = [[name for name in names if tier_of.get(name, last) == tier] for tier in range(last + 1)]
    return [tier for tier in tiers if tier]


def _stop(supervisor: Supervisor, names: list[str], steps: Steps) -> None:
    """Ask all of them at once and wait; supervisord kills one that takes longer than its `stop_within_s`."""
    running = [
        name
        for name, process in supervisor.processes().items()
        if name in names and process.state in ("RUNNING", "STARTING", "BACKOFF", "STOPPING")
    ]
    if not running:
        return
    with steps.step(f"stop {', '.join(running)}"):
        for name in running:
            supervisor.stop_program(name)
        _wait_until(
            lambda: all(
                process.state in ("STOPPED", "EXITED", "FATAL")
                for name, process in supervisor.processes().items()
                if name in running
            ),
            60,
        )


def _wait_until(condition: Callable[[], bool], timeout_s: float) -> bool:
    deadline = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.1)
    return True
