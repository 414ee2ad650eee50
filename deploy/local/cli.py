"""The command's parser and its dispatch."""

from __future__ import annotations

import argparse
import importlib
import os
import sys
from collections.abc import Sequence

from deploy.local.errors import FAILED, CommandError

VERB_MODULES = (
    "deploy.local.verbs_demo",
    "deploy.local.verbs_stack",
    "deploy.local.verbs_load",
    "deploy.local.verbs_ask",
    "deploy.local.verbs_quarantine",
    "deploy.local.verbs_contracts",
    "deploy.local.verbs_micro",
    "deploy.local.verbs_rebuild",
    "deploy.local.verbs_doctor",
    "deploy.local.verbs_test",
    "deploy.local.verbs_bench",
)
_INTERRUPTED = 130


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="tillstream",
        description="A real-time retail data platform, run as local processes on this machine.",
        epilog="State is kept under .tillstream/ or TILLSTREAM_HOME. "
        "Exit codes: 0 ok, 1 failed, 2 wrong usage, 3 not running.",
    )
    subparsers = parser.add_subparsers(title="verbs", dest="verb", metavar="VERB", required=True)
    for name in VERB_MODULES:
        importlib.import_module(name).register(subparsers)
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    args = build_parser().parse_args(arguments)
    try:
        return int(args.run(args))
    except CommandError as error:
        print(f"tillstream: {error}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        print("tillstream: interrupted", file=sys.stderr)
        return _INTERRUPTED
    except BrokenPipeError:
        # The reader went away, as `head` does; without this Python complains again at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return FAILED
