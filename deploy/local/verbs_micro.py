"""`micro`: the chain in one small process, for the tests of those who produce events."""

from __future__ import annotations

import argparse
import signal
import threading

from deploy.local.errors import CommandError

DEFAULT_PORT = 17090


def register(verbs: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = verbs.add_parser(
        "micro",
        help="validate events in one small process, without Kafka",
        description="Ingest, quality and enrichment in memory: post events as to ingest (/v1/events/sales), "
        "ask /micro/good, /micro/bad and /micro/all, begin anew with /micro/reset. Prints its address as "
        "JSON when ready; keeps nothing. For pytest: pytest_plugins = ['deploy.micro.plugin'].",
    )
    parser.add_argument("--host", default="127.0.0.1", help="default: %(default)s")
    parser.add_argument(
        "--port", type=int, default=DEFAULT_PORT, help="0 takes a free one (default: %(default)s)"
    )
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    from deploy.micro.server import Micro, ready_line

    try:
        micro = Micro(args.host, args.port).start()
    except (OSError, OverflowError) as error:
        raise CommandError(f"cannot listen on {args.host}:{args.port}: {error}") from error
    ended = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: ended.set())
    print(ready_line(micro), flush=True)
    ended.wait()
    micro.close()
    return 0
