"""The verbs up, down, status and logs."""

from __future__ import annotations

import argparse
import json
import signal
import sys
import time
from collections.abc import Collection
from types import FrameType

from deploy.local import lifecycle, setup, toolchain
from deploy.local.errors import WRONG_USAGE, CommandError
from deploy.local.layout import Layout
from deploy.local.ports import DEFAULT_BASE, Ports
from deploy.local.processes import of_home
from deploy.local.progress import Steps
from deploy.local.stack import Stack, names_in_tree
from deploy.local.status import Status, status
from deploy.local.supervision import Supervisor, exits
from deploy.local.tail import show_logs

_WATCH_S = 1.0
# A service manager or a closed terminal ends the stack as Ctrl-C does.
_ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def register(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    up = subparsers.add_parser(
        "up",
        help="install what is missing and start everything",
        description="Start all servers and services and wait until they are ready. In the foreground, Ctrl-C "
        "stops everything again.",
    )
    up.add_argument("--detach", action="store_true", help="return when all is ready and leave it running")
    up.add_argument(
        "--port-base",
        type=int,
        metavar="N",
        help=f"first port (default: TILLSTREAM_PORT_BASE, else {DEFAULT_BASE})",
    )
    up.add_argument("--json", action="store_true", help="print the status as JSON once all is ready")
    up.set_defaults(run=_up)

    down = subparsers.add_parser("down", help="stop everything that up started")
    down.set_defaults(run=_down)

    state = subparsers.add_parser("status", help="show the URLs and the state of every process")
    state.add_argument("--json", action="store_true", help="as JSON")
    state.set_defaults(run=_status)

    logs = subparsers.add_parser("logs", help="show the log of one process, or the end of all")
    logs.add_argument("service", nargs="?", metavar="SERVICE", help="a name of status, or supervisord")
    logs.add_argument("-f", "--follow", action="store_true", help="go on with what is written from now on")
    logs.add_argument("-n", "--lines", type=int, default=None, metavar="N", help="lines from the end")
    logs.set_defaults(run=_logs)


def bring_up(port_base: int | None = None, only: Collection[str] | None = None) -> tuple[Stack, bool]:
    """Install, start, wait until ready. The second value is False when the stack ran already.

    Raises CommandError with one clear line; progress goes to standard error.
    """
    layout = Layout.from_environment().create()
    with Steps() as steps, lifecycle.exclusive(layout, steps):
        if (running := Stack.current()) is not None:
            return running, False
        steps.note(setup.native_library())
        stack = Stack.build(layout, Ports.choose(port_base), toolchain.ensure(layout, steps), only)
        lifecycle.up(stack, steps)
        steps.note(f"all ready after {steps.elapsed_s:.1f} s")
        return stack, True


def bring_down(layout: Layout) -> bool:
    """Stop everything of this home. Returns whether anything ran."""
    if not layout.run.exists():
        return False
    with Steps() as steps, lifecycle.exclusive(layout, steps):
        return lifecycle.down(layout, steps)


def _up(args: argparse.Namespace) -> int:
    for number in _ENDING:
        signal.signal(number, _interrupt)
    stack, started = bring_up(args.port_base)
    if not started:
        print(f"already running on port base {stack.ports.base}", file=sys.stderr)
    found = status(stack)
    _show(found, as_json=args.json)
    if args.detach or not started:
        return 0
    print("running; Ctrl-C stops everything", file=sys.stderr)
    return _watch(stack)


def _interrupt(_signal: int, _frame: FrameType | None) -> None:
    # A second Ctrl-C must not cut the stopping short and leave half of it running.
    for number in _ENDING:
        signal.signal(number, signal.SIG_IGN)
    raise KeyboardInterrupt


def _watch(stack: Stack) -> int:
    """Report what dies and what becomes of it, until Ctrl-C or until the stack is taken down elsewhere."""
    supervisor = Supervisor(stack.layout)
    reported = 0
    before = {service.name: service.state for service in status(stack).services}
    try:
        while supervisor.is_up():
            for end in exits(stack.layout)[reported:]:
                reported += 1
                print(f"{end.at}  {end.name} ended: {end.how}; it is started again", file=sys.stderr)
            for service in status(stack).services:
                if service.state != before.get(service.name):
                    reason = f" ({service.reason})" if service.reason else ""
                    print(
                        f"{time.strftime('%F %T')}  {service.name} is {service.state}{reason}",
                        file=sys.stderr,
                    )
                    before[service.name] = service.state
            time.sleep(_WATCH_S)
    except KeyboardInterrupt:
        bring_down(stack.layout)
    return 0


def _down(_args: argparse.Namespace) -> int:
    layout = Layout.from_environment()
    ran = bring_down(layout)
    if of_home(layout):
        raise CommandError("some processes of this home are still there; see ./tillstream status")
    print("stopped" if ran else "not running", file=sys.stderr)
    return 0


def _status(args: argparse.Namespace) -> int:
    _show(status(), as_json=args.json)
    return 0


def _show(found: Status, *, as_json: bool) -> None:
    if as_json:
        print(json.dumps(found.to_json(), indent=2), flush=True)
        return
    print(
        f"{'service':<12}{'state':<11}{'pid':>8}{'lag':>10}{'lag s':>8}{'p50 ms':>9}{'p99 ms':>9}"
        f"{'restarts':>10}"
    )
    for service in found.services:
        lag = "" if service.lag is None else f"{service.lag:,}"
        pid = "" if service.pid is None else str(service.pid)
        late, p50, p99 = map(_figure, (service.lag_seconds, service.p50_ms, service.p99_ms))
        reason = f"  {service.reason}" if service.reason else ""
        print(
            f"{service.name:<12}{service.state:<11}{pid:>8}{lag:>10}{late:>8}{p50:>9}{p99:>9}"
            f"{service.restarts:>10}{reason}"
        )
    if found.running:
        print()
        for name, url in found.urls.items():
            if url is not None:
                print(f"{name:<12}{url}")
        print(f"{'lake':<12}{found.lake}", flush=True)


def _figure(value: float | None) -> str:
    return "" if value is None else f"{value:,.1f}"


def _logs(args: argparse.Namespace) -> int:
    layout = Layout.from_environment()
    names = [*names_in_tree(), "supervisord"]
    if args.service is not None and args.service not in names:
        raise CommandError(f"no such service: {args.service} (one of {', '.join(names)})", WRONG_USAGE)
    chosen = names if args.service is None else [args.service]
    lines = args.lines if args.lines is not None else (10 if args.service is None else 100)
    return show_logs({name: layout.logs / f"{name}.log" for name in chosen}, lines, follow=args.follow)
