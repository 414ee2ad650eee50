"""Runs of a stage: one that is timed, and one that is killed."""

from __future__ import annotations

import sys
import time
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median
from typing import Final

from bench.harness.broker import Broker, digest
from bench.harness.runs import Measured, Process, measure, running
from bench.peers.protocol import Config
from bench.transform.by_record import event_id_of
from bench.workloads.stage_input import Input
from deploy.local.errors import CommandError

_TIMEOUT_S: Final = 300.0
_OPEN_TRANSACTION_S: Final = 120.0
_PROGRESS_PARTS: Final = 40


def timed_run(kafka: Broker, command: Sequence[str], given: Input, config: Config) -> Measured:
    """One run, whose output must be what is expected: else it is void, and so is the benchmark."""
    _prepare(kafka, config)
    before = kafka.cpu_s()
    with running(command, config, Path(config.state).parent, config.group) as process:
        measured = measure(process, _TIMEOUT_S)
        after = kafka.cpu_s()
    found = digest(kafka.read(config.topic_out))
    kafka.delete_all_of(config.group)
    if found != given.expected or measured.records != given.records:
        raise CommandError(f"{config.group}: the output differs from the expected one; the run is void")
    return measured if before is None or after is None else replace(measured, broker_cpu_s=after - before)


@dataclass(frozen=True, slots=True)
class Survived:
    """What a run left in its output topic that was killed with SIGKILL: ids lost, more than once, and never
    expected. `stalled_s`: how long its readers waited for a transaction that a killed process had left."""

    kills: int
    lost: int
    doubled: int
    foreign: int
    stalled_s: float


def killed_run(kafka: Broker, command: Sequence[str], given: Input, config: Config, kills: int) -> Survived:
    """Kill the peer `kills` times in the middle of its work, start it again each time, let it finish, and
    compare the ids of all committed records with the expected ones."""
    config = replace(config, forever=True, progress_every=max(given.records // _PROGRESS_PARTS, 1))
    _prepare(kafka, config)
    folder = Path(config.state).parent
    part = given.records // (kills + 1)
    for _ in range(kills):
        with running(command, config, folder, config.group) as process:
            _until(process, part)
            process.kill()
    with running(command, config, folder, config.group) as process:
        _until_committed(kafka, config, process)
        stalled = kafka.wait_for_open_transactions(config.topic_out, _OPEN_TRANSACTION_S)
    survived = compare(map(event_id_of, kafka.read(config.topic_out)), given.kept)
    kafka.delete_all_of(config.group)
    return replace(survived, kills=kills, stalled_s=stalled)


def compare(found: Iterable[str], expected: frozenset[str]) -> Survived:
    """Ids and not counts: a count hides a loss that a double makes good."""
    times = Counter(found)
    return Survived(
        kills=0,
        lost=len(expected - times.keys()),
        doubled=sum(1 for count in times.values() if count > 1),
        foreign=len(times.keys() - expected),
        stalled_s=0.0,
    )


def median_text(values: Iterable[float | None], digits: int = 1) -> str:
    found = [value for value in values if value is not None]
    return f"{median(found):,.{digits}f}" if found else "not measured"


def say(text: str) -> None:
    print(f"bench: {text}", file=sys.stderr, flush=True)


def _prepare(kafka: Broker, config: Config) -> None:
    Path(config.state).mkdir(parents=True)
    kafka.create(config.topic_out, config.topic_decisions, partitions=len(config.ends))


def _until(process: Process, records: int) -> None:
    while process.wait_for("progress", _TIMEOUT_S)[0]["records"] < records:
        continue


def _until_committed(kafka: Broker, config: Config, process: Process) -> None:
    deadline = time.monotonic() + _TIMEOUT_S
    while kafka.committed(config.group, config.topic_in) != config.ends:
        if time.monotonic() > deadline:
            raise CommandError(f"{config.group} did not finish after it was killed{process.said()}")
        time.sleep(0.2)
