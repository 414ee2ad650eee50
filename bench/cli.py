"""`./tillstream bench NAME`: run one workload, print its table, and write it to bench/RESULTS.md."""

from __future__ import annotations

import argparse
import signal
import sys
from collections.abc import Sequence
from types import FrameType

from bench.catalogue import NAMES, workload
from bench.harness.results import Result, save, section


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="tillstream bench")
    subparsers = parser.add_subparsers(title="workloads", dest="name", metavar="NAME", required=True)
    for name in NAMES:
        module = workload(name)
        own = subparsers.add_parser(name, help=module.HELP, description=module.__doc__)
        module.arguments(own)
        own.add_argument(
            "--dry", action="store_true", help="print the results and leave bench/RESULTS.md as it is"
        )
        own.set_defaults(run=module.run)
    return parser


def main(arguments: Sequence[str]) -> int:
    args = build_parser().parse_args(arguments)
    # So that what was started is ended: without it a `kill` would leave a platform running.
    signal.signal(signal.SIGTERM, _leave)
    result: Result = args.run(args)
    print(section(result), flush=True)
    if not args.dry:
        save(result)
        print("bench: written to bench/RESULTS.md", file=sys.stderr)
    return 0


def _leave(number: int, _frame: FrameType | None) -> None:
    sys.exit(128 + number)
