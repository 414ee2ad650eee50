"""`stage_durable`: the stage with its ids where a crash cannot lose them; timed, and killed in mid-run."""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import median
from typing import Any, Final

from bench.harness.broker import Broker, broker
from bench.harness.machine import describe
from bench.harness.results import Result, Table, spread
from bench.harness.runs import Measured
from bench.workloads.stage_input import Input, fill
from bench.workloads.stage_peers import PEERS, Peer, chosen
from bench.workloads.stage_runs import Survived, killed_run, median_text, say, timed_run
from deploy.local.layout import Layout

HELP: Final = "the same with durable ids, and kill -9: what was lost, what was doubled"
PARTITIONS: Final = 3
_PEERS: Final = tuple(peer for peer in PEERS if peer.durable)


@dataclass(slots=True)
class _Found:
    timed: list[Measured] = field(default_factory=list)
    killed: list[Survived] = field(default_factory=list)


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--events", type=int, default=300_000, help="records of a run (default: %(default)s)")
    parser.add_argument(
        "--rounds", type=int, default=3, help="timed runs of each peer (default: %(default)s)"
    )
    parser.add_argument(
        "--kill-rounds", type=int, default=1, help="killed runs of each (default: %(default)s)"
    )
    parser.add_argument("--kills", type=int, default=2, help="kills in one of them (default: %(default)s)")
    parser.add_argument("--peers", help=f"of {', '.join(p.name for p in _PEERS)} (default: all)")
    parser.add_argument("--commit-every", type=int, default=10_000, help="records of a transaction")
    parser.add_argument("--kafka", metavar="HOST:PORT", help="measure on this broker instead of an own one")


def run(args: argparse.Namespace) -> Result:
    peers, layout, machine = chosen(args.peers, _PEERS), Layout.from_environment(), describe()
    commands = {peer.name: peer.command(layout) for peer in peers}
    topic = f"bench.durable.{time.time_ns():x}"
    found = {peer.name: _Found() for peer in peers}
    with broker(args.kafka) as kafka, tempfile.TemporaryDirectory(prefix="tillstream-bench-") as temporary:
        say(f"producing {args.events:,} records")
        given = fill(kafka, topic, args.events, PARTITIONS)
        try:
            for turn in range(max(args.rounds, args.kill_rounds)):
                for peer in peers:
                    _turn(
                        kafka,
                        commands[peer.name],
                        given,
                        found[peer.name],
                        (peer, turn, Path(temporary), args),
                    )
        finally:
            kafka.delete_all_of(topic)
    return _result(peers, found, machine, args)


def _turn(
    kafka: Broker,
    command: Sequence[str],
    given: Input,
    found: _Found,
    turn: tuple[Peer, int, Path, argparse.Namespace],
) -> None:
    peer, number, folder, args = turn
    name = f"{given.topic}.{peer.name}.{number}"
    if number < args.rounds:
        config = given.config(kafka, f"{name}.timed", folder, commit_every=args.commit_every, durable=True)
        found.timed.append(timed_run(kafka, command, given, config))
        say(f"{peer.name}: {found.timed[-1].per_core():,.0f}/s and core")
    if number < args.kill_rounds:
        config = given.config(kafka, f"{name}.killed", folder, commit_every=args.commit_every, durable=True)
        found.killed.append(killed_run(kafka, command, given, config, args.kills))
        say(f"{peer.name}: {found.killed[-1]}")


def _result(
    peers: Sequence[Peer], found: Mapping[str, _Found], machine: dict[str, Any], args: argparse.Namespace
) -> Result:
    columns = (
        *("peer", "guarantee", "events/s and core", "second half", "ours is faster by", "events/s (wall)"),
        *("peak memory, MiB", "broker CPU, s", "kills", "ids lost", "ids doubled", "readers stood still, s"),
    )
    ours = found["tillstream"].timed if "tillstream" in found else []
    tuning = Table("What each peer was given", ("peer", "tuning"), [(p.title(), p.tuning) for p in peers])
    return Result(
        workload="stage_durable",
        title="stage_durable: one stage, durable ids, kill -9",
        machine=machine,
        parameters={
            "records": args.events,
            "timed rounds": args.rounds,
            "records of a transaction": args.commit_every,
            "partitions": PARTITIONS,
        },
        tables=[Table("", columns, [_row(peer, found[peer.name], ours) for peer in peers]), tuning],
        notes=[
            "Ours keeps ids and content hashes in LMDB, synced before each commit, and writes every decision "
            "to a changelog topic in the same transaction; it computes a SHA-256 over each event's content, "
            "which the peers do not. Quix and Kafka Streams keep ids in RocksDB with a changelog topic.",
            "Killed runs: SIGKILL in the middle of the work, started again with the same state folder; then "
            "the ids of all committed output records are compared with the expected ones.",
            "Readers stood still: from the end of the work until a reader of committed records could read "
            "on, past a transaction that a killed process had left open.",
        ],
        raw={name: asdict(each) for name, each in found.items()},
    )


def _row(peer: Peer, found: _Found, ours: Sequence[Measured]) -> list[str]:
    core = [run.per_core() for run in found.timed]
    times = median(run.per_core() for run in ours) / median(core) if ours and core else None
    return [
        peer.title(),
        peer.guarantee,
        spread(core) if core else "",
        spread(run.second_half_per_core() for run in found.timed) if core else "",
        f"{times:.1f}" if times else "",
        spread(run.per_second() for run in found.timed) if core else "",
        median_text((run.peak_mib for run in found.timed), 0),
        median_text(run.broker_cpu_s for run in found.timed),
        str(sum(each.kills for each in found.killed)),
        str(sum(each.lost for each in found.killed)),
        str(sum(each.doubled for each in found.killed)),
        median_text(each.stalled_s for each in found.killed),
    ]
