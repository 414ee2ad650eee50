"""`demo`: a real retailer's sales as live events, and what the platform makes of them on one screen."""

from __future__ import annotations

import argparse

from deploy.local.errors import WRONG_USAGE, CommandError
from deploy.local.verbs import add_json, add_port_base, started_stack


def register(verbs: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = verbs.add_parser(
        "demo",
        help="start everything and watch real sales flow",
        description="Start the platform if it is not running, stream three days of a real retailer's sales "
        "through it, and show them arrive. Ctrl-C ends it.",
    )
    parser.add_argument("--rate", type=int, default=250, metavar="N", help="events/s (default: %(default)s)")
    parser.add_argument(
        "--exit-when-drained",
        action="store_true",
        help="end with a summary once every event has its outcome; exit code 0 only if the ledger balances",
    )
    add_port_base(parser)
    add_json(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    if args.rate < 1:
        raise CommandError("--rate must be 1 or more", WRONG_USAGE)
    with started_stack(args.port_base, keep=not args.exit_when_drained) as stack:
        from deploy.local.demo import show

        return show(stack, args.rate, stay=not args.exit_when_drained, as_json=args.json)
