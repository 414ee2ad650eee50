"""The peers of the stage benchmarks: what each is, what it promises, how it is started."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from bench.harness.installed import LOCK, peers_python, streams_program
from bench.harness.machine import locked_version
from deploy.local.errors import WRONG_USAGE, CommandError
from deploy.local.java import find
from deploy.local.layout import Layout
from deploy.local.versions import VERSIONS

EXACTLY_ONCE: Final = "exactly once"
AT_LEAST_ONCE: Final = "at least once"


@dataclass(frozen=True, slots=True)
class Peer:
    """`slow`: gets the short input, so that a run ends within a minute. `tuning` is what it got, in words."""

    name: str
    title: Callable[[], str]
    guarantee: str
    tuning: str
    command: Callable[[Layout], list[str]]
    slow: bool = False
    durable: bool = False


def _ours(module: str) -> Callable[[Layout], list[str]]:
    return lambda layout: [sys.executable, "-m", f"bench.peers.{module}"]


def _theirs(module: str) -> Callable[[Layout], list[str]]:
    return lambda layout: [str(peers_python(layout)), "-m", f"bench.peers.{module}"]


def _streams(layout: Layout) -> list[str]:
    java = find()
    if java is None:
        raise CommandError(f"JDK {VERSIONS.java_release} is missing; run ./tillstream doctor")
    return streams_program(layout, java).command(java)


def _locked(title: str, package: str) -> Callable[[], str]:
    return lambda: f"{title} {locked_version(LOCK, package)}"


PEERS: Final = (
    Peer(
        "tillstream",
        lambda: "Tillstream",
        EXACTLY_ONCE,
        "one transaction for up to 10,000 records",
        _ours("tillstream_stage"),
        durable=True,
    ),
    Peer(
        "bytewax_by_column",
        _locked("Bytewax, our batch step,", "bytewax"),
        AT_LEAST_ONCE,
        "`flat_map_batch` with the step of Tillstream; source batches of 10,000, lz4, 1 MB batches, "
        "no recovery store",
        _theirs("bytewax_by_column"),
    ),
    Peer(
        "plain",
        lambda: "plain loop (confluent-kafka, fastavro)",
        EXACTLY_ONCE,
        "1,000 records a fetch, 10,000 a transaction, lz4, 1 MB batches, schemas without logical types",
        _ours("plain_loop"),
    ),
    Peer(
        "bytewax",
        _locked("Bytewax, by record,", "bytewax"),
        AT_LEAST_ONCE,
        "`filter_map`; source batches of 10,000, lz4, 1 MB batches, no recovery store",
        _theirs("bytewax_by_record"),
    ),
    Peer(
        "quix",
        _locked("Quix Streams", "quixstreams"),
        EXACTLY_ONCE,
        "bytes in and out, commit every 10,000 records or 1 s, lz4, 1 MB batches; durable: its "
        "RocksDB state and changelog topic",
        _theirs("quix_stage"),
        durable=True,
    ),
    Peer(
        "faust",
        _locked("Faust (faust-streaming)", "faust-streaming"),
        AT_LEAST_ONCE,
        "raw bytes, no web server, no leader topic, acknowledgements gathered every 10,000 records, lz4, "
        "1 MB batches",
        _theirs("faust_stage"),
        slow=True,
    ),
    Peer(
        "kafka_streams",
        lambda: f"Kafka Streams {VERSIONS.kafka} (JVM)",
        EXACTLY_ONCE + " (exactly_once_v2)",
        "Processor API, one stream thread, Avro generic records reused, fast reader, ParallelGC, 2 GB heap, "
        "commit every 1 s, 10,000 records a poll, lz4, 1 MB batches; durable: persistent store with cache "
        "and changelog",
        _streams,
        durable=True,
    ),
)


def chosen(names: str | None, peers: Sequence[Peer] = PEERS) -> list[Peer]:
    """The peers of a comma-separated list, all for None. Raises CommandError for an unknown one."""
    if names is None:
        return list(peers)
    by_name = {peer.name: peer for peer in peers}
    wanted = [name.strip() for name in names.split(",")]
    if unknown := [name for name in wanted if name not in by_name]:
        raise CommandError(f"no such peer: {unknown[0]} (one of {', '.join(by_name)})", WRONG_USAGE)
    return [by_name[name] for name in wanted]
