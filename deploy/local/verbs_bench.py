"""The verb bench: measurements, never part of the tests."""

from __future__ import annotations

import argparse

# Names and one line each, here so that the list answers before anything is installed.
WORKLOADS = {
    "stage_transform": "one stage on a real broker against six peers, duplicates in memory",
    "stage_durable": "the same with durable ids against two of them, and what kill -9 loses or doubles",
    "codec": "Avro by the batch against other codecs",
    "scale": "our stage with one to four workers",
    "e2e_latency": "whole platform, steady load: from acceptance to every store",
    "year": "whole platform: 541,909 lines from CSV to every store",
}


def register(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = subparsers.add_parser(
        "bench",
        help="measure, and write bench/RESULTS.md",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        description="Run one benchmark on servers of its own and write its table to bench/RESULTS.md.\n\n"
        + "\n".join(f"  {name:<16} {line}" for name, line in WORKLOADS.items())
        + "\n\nEach has its own options: ./tillstream bench NAME --help. The peers (other stream processors) "
        "are\ninstalled on first use, in an environment of their own.",
    )
    parser.add_argument("--list", action="store_true", help="the names of the benchmarks")
    parser.add_argument(
        "name", nargs="?", choices=WORKLOADS, metavar="NAME", help="which one; none: the list"
    )
    parser.add_argument("options", nargs=argparse.REMAINDER, metavar="...", help="options of that benchmark")
    parser.set_defaults(run=_bench)


def _bench(args: argparse.Namespace) -> int:
    if args.list or args.name is None:
        for name, line in WORKLOADS.items():
            print(f"{name:<16} {line}")
        return 0
    from bench.cli import main

    return main([args.name, *args.options])
