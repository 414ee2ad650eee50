"""`scale`: our stage with one to four worker processes in one consumer group."""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from statistics import median
from typing import Any, Final

from bench.harness.broker import Broker, broker, digest
from bench.harness.machine import describe
from bench.harness.procfs import tree_cpu_s
from bench.harness.results import Result, Table, spread
from bench.harness.runs import Process, running
from bench.workloads.stage_input import Input, fill
from bench.workloads.stage_runs import median_text, say
from deploy.local.errors import CommandError

HELP: Final = "our stage with 1 to 4 workers"
PARTITIONS: Final = 4
_JOIN_S: Final = 60.0
_RUN_S: Final = 300.0
_SETTLE_S: Final = 3.0
_COMMAND: Final = (sys.executable, "-m", "bench.peers.tillstream_stage")


@dataclass(frozen=True, slots=True)
class Scaled:
    """`wall_s`: from the start signal to the last worker's last commit; `cpu_s`: of all workers together."""

    records: int
    wall_s: float
    cpu_s: float
    broker_cpu_s: float | None


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--events", type=int, default=800_000, help="records of a run (default: %(default)s)")
    parser.add_argument("--rounds", type=int, default=3, help="runs of each size (default: %(default)s)")
    parser.add_argument("--workers", default="1,2,3,4", help="sizes, comma-separated (default: %(default)s)")
    parser.add_argument("--kafka", metavar="HOST:PORT", help="measure on this broker instead of an own one")


def run(args: argparse.Namespace) -> Result:
    sizes, machine = [int(size) for size in args.workers.split(",")], describe()
    topic = f"bench.scale.{time.time_ns():x}"
    found: dict[int, list[Scaled]] = {size: [] for size in sizes}
    with broker(args.kafka) as kafka, tempfile.TemporaryDirectory(prefix="tillstream-bench-") as temporary:
        say(f"producing {args.events:,} records")
        given = fill(kafka, topic, args.events, PARTITIONS)
        try:
            for turn in range(args.rounds):
                for size in sizes:
                    name = f"{topic}.{size}.{turn}"
                    found[size].append(_once(kafka, given, size, name, Path(temporary)))
                    say(f"{size} workers: {given.records / found[size][-1].wall_s:,.0f}/s")
        finally:
            kafka.delete_all_of(topic)
    return _result(found, machine, args)


def _once(kafka: Broker, given: Input, size: int, name: str, folder: Path) -> Scaled:
    gate = folder / f"{name}.gate"
    config = replace(given.config(kafka, name, folder, commit_every=10_000), gate=str(gate))
    Path(config.state).mkdir(parents=True)
    kafka.create(config.topic_out, partitions=PARTITIONS)
    with ExitStack() as stack:
        workers = [
            stack.enter_context(running(_COMMAND, replace(config, worker=i), folder, f"{name}.{i}"))
            for i in range(size)
        ]
        _joined(workers)
        cpu, broker_cpu, begun = sum(tree_cpu_s(w.pid) for w in workers), kafka.cpu_s(), time.monotonic()
        gate.touch()
        ends = [worker.wait_for("end", _RUN_S)[1] for worker in workers]
        after = kafka.cpu_s()
        for worker in workers:
            worker.finish()
    if digest(kafka.read(config.topic_out)) != given.expected:
        raise CommandError(f"{name}: the output differs from the expected one; the run is void")
    kafka.delete_all_of(name)
    used = None if after is None or broker_cpu is None else after - broker_cpu
    wall = max(end.wall_s for end in ends) - begun
    return Scaled(given.records, wall, sum(end.cpu_s for end in ends) - cpu, used)


def _joined(workers: Sequence[Process]) -> None:
    """Until each worker has its share of the partitions, and for a moment more: a rebalance may follow."""
    for worker in workers:
        worker.wait_for("assigned", _JOIN_S)
    time.sleep(_SETTLE_S)


def _result(
    found: Mapping[int, Sequence[Scaled]], machine: dict[str, Any], args: argparse.Namespace
) -> Result:
    first = median(each.wall_s for each in next(iter(found.values())))
    rows = [
        [
            str(size),
            spread(each.records / each.wall_s for each in runs),
            f"{first / median(each.wall_s for each in runs):.2f}",
            spread(each.records / each.cpu_s for each in runs),
            median_text(each.broker_cpu_s for each in runs),
        ]
        for size, runs in found.items()
    ]
    columns = ("workers", "events/s (wall)", "times the first", "events/s and core", "broker CPU, s")
    return Result(
        workload="scale",
        title="scale: our stage with more workers",
        machine=machine,
        parameters={"records": args.events, "rounds": args.rounds, "partitions": PARTITIONS},
        tables=[Table("", columns, rows)],
        notes=[
            "The workers join their group first and begin together; the time is from there to the last "
            "commit. The broker shares the machine: once as many processes are busy as there are cores, more "
            "workers cannot help.",
            "Outputs were compared as in stage_transform.",
        ],
        raw={str(size): [asdict(each) for each in runs] for size, runs in found.items()},
    )
