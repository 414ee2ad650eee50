"""`stage_transform`: the same work by our stage and its peers on a real broker, ids kept in memory."""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from statistics import median
from typing import Final

from bench.harness.broker import Broker, broker
from bench.harness.machine import describe
from bench.harness.results import Result, Table, spread
from bench.harness.runs import Measured
from bench.workloads.stage_input import Input, fill
from bench.workloads.stage_peers import PEERS, Peer, chosen
from bench.workloads.stage_runs import median_text, say, timed_run
from deploy.local.layout import Layout

HELP: Final = "decode, rules, duplicates in memory, join, encode: our stage and its peers on a real broker"
PARTITIONS: Final = 3


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--events", type=int, default=500_000, help="records of a run (default: %(default)s)")
    parser.add_argument(
        "--slow-events", type=int, default=50_000, help="the same for slow peers (default: %(default)s)"
    )
    parser.add_argument("--rounds", type=int, default=3, help="runs of each peer (default: %(default)s)")
    parser.add_argument("--peers", help=f"of {', '.join(p.name for p in PEERS)} (default: all)")
    parser.add_argument("--commit-every", type=int, default=10_000, help="records of a transaction")
    parser.add_argument("--kafka", metavar="HOST:PORT", help="measure on this broker instead of an own one")


def run(args: argparse.Namespace) -> Result:
    peers, layout, machine = chosen(args.peers), Layout.from_environment(), describe()
    commands = {peer.name: peer.command(layout) for peer in peers}
    with broker(args.kafka) as kafka, tempfile.TemporaryDirectory(prefix="tillstream-bench-") as temporary:
        inputs = _inputs(kafka, peers, args)
        runs: dict[str, list[Measured]] = {peer.name: [] for peer in peers}
        try:
            for turn in range(args.rounds):
                for peer in peers:
                    given = inputs[peer.slow]
                    name = f"{given.topic}.{peer.name}.{turn}"
                    config = given.config(kafka, name, Path(temporary), commit_every=args.commit_every)
                    measured = timed_run(kafka, commands[peer.name], given, config)
                    runs[peer.name].append(measured)
                    say(f"{peer.name}: {measured.per_core():,.0f}/s and core, {measured.per_second():,.0f}/s")
        finally:
            for each in inputs.values():
                kafka.delete_all_of(each.topic)
    return _result(peers, runs, machine, args)


def _inputs(kafka: Broker, peers: Sequence[Peer], args: argparse.Namespace) -> dict[bool, Input]:
    """The long input under False and, where a peer needs it, the short one under True."""
    stamp = f"bench.transform.{time.time_ns():x}"
    sizes = {False: args.events, True: args.slow_events}
    found = {}
    for slow in sorted({peer.slow for peer in peers}):
        say(f"producing {sizes[slow]:,} records")
        found[slow] = fill(kafka, f"{stamp}.{'short' if slow else 'long'}", sizes[slow], PARTITIONS)
    return found


def _result(
    peers: Sequence[Peer],
    runs: dict[str, list[Measured]],
    machine: dict[str, object],
    args: argparse.Namespace,
) -> Result:
    ours = runs.get("tillstream")
    rows = [_row(peer, runs[peer.name], ours) for peer in peers]
    columns = (
        *("peer", "guarantee", "events/s and core", "second half", "ours is faster by", "events/s (wall)"),
        *("CPU before the first record, s", "peak memory, MiB", "broker CPU, s"),
    )
    tuning = Table("What each peer was given", ("peer", "tuning"), [(p.title(), p.tuning) for p in peers])
    return Result(
        workload="stage_transform",
        title="stage_transform: one stage, duplicates in memory",
        machine=machine,
        parameters={
            "records": args.events,
            "records of slow peers": args.slow_events,
            "rounds": args.rounds,
            "records of a transaction": args.commit_every,
            "partitions": PARTITIONS,
        },
        tables=[Table("", columns, rows), tuning],
        notes=[
            "CPU is the peer's process alone (user and system, from /proc), from its first record to the "
            "commit of its last one; the second half of the records shows a JVM after warming up.",
            "Every output was compared by a SHA-256 over its sorted records (each begins with its id) with "
            "that of plain Python code: all equal, or there would be no table.",
        ],
        raw={name: [asdict(measured) for measured in found] for name, found in runs.items()},
    )


def _row(peer: Peer, runs: Sequence[Measured], ours: Sequence[Measured] | None) -> list[str]:
    core = [run.per_core() for run in runs]
    times = "" if ours is None else f"{median(run.per_core() for run in ours) / median(core):.1f}"
    return [
        peer.title(),
        peer.guarantee,
        spread(core),
        spread(run.second_half_per_core() for run in runs),
        times,
        spread(run.per_second() for run in runs),
        median_text(run.before_cpu_s for run in runs),
        median_text((run.peak_mib for run in runs), 0),
        median_text(run.broker_cpu_s for run in runs),
    ]
