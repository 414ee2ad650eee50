"""Reading the topics of change data capture as a consumer does, and what must hold of what was read."""

from __future__ import annotations

import io
import json
import struct
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import fastavro
from confluent_kafka import Consumer, TopicPartition

from schemas.registry import RegistryClient

_HEAD = struct.Struct(">bI")


@dataclass(frozen=True)
class Change:
    """One record. `key`: the primary key's values; `at_s`: when it was read, on the monotonic clock."""

    table: str
    key: tuple[str, ...]
    op: str
    before: dict[str, Any] | None
    after: dict[str, Any] | None
    lsn: int
    raw: bytes = field(repr=False, compare=False)
    at_s: float = field(repr=False, compare=False)


class Topics:
    """Every change of the tables from the beginning, in the order of each partition; in no group."""

    def __init__(self, kafka: str, registry: str, tables: Iterable[str]) -> None:
        self._registry = RegistryClient(registry)
        self._schemas: dict[int, Any] = {}
        self._consumer = Consumer(
            {
                "bootstrap.servers": kafka,
                "group.id": "unused",
                "enable.auto.commit": False,
                "fetch.wait.max.ms": 10,
            }
        )
        wanted = []
        for table in tables:
            topic = f"cdc.shop.{table}"
            partitions = self._consumer.list_topics(topic, timeout=20).topics[topic].partitions
            wanted += [TopicPartition(topic, number, 0) for number in partitions]
        self._consumer.assign(wanted)
        self.changes: list[Change] = []

    def read_until(self, condition: Callable[[], bool], within_s: float, what: Callable[[], str]) -> None:
        deadline = time.monotonic() + within_s
        while not condition():
            assert time.monotonic() < deadline, f"not within {within_s} s: {what()}"
            # All that is there, before the condition looks at all of it again.
            while self.poll(0.1) is not None and time.monotonic() < deadline:
                pass

    def poll(self, timeout_s: float) -> Change | None:
        """The next record, or None; it is kept in `changes` too."""
        message = self._consumer.poll(timeout_s)
        if message is None or message.error() is not None:
            return None
        value = self._decoded(message.value())
        found = Change(
            table=message.topic().rpartition(".")[2],
            key=tuple(str(part) for part in self._decoded(message.key()).values()),
            op=value["op"],
            before=value["before"],
            after=value["after"],
            lsn=value["source"]["lsn"],
            raw=message.value(),
            at_s=time.monotonic(),
        )
        self.changes.append(found)
        return found

    def of(self, table: str) -> list[Change]:
        return [change for change in self.changes if change.table == table]

    def close(self) -> None:
        self._consumer.close()

    def _decoded(self, data: bytes) -> dict[str, Any]:
        magic, schema_id = _HEAD.unpack_from(data)
        assert magic == 0
        if schema_id not in self._schemas:
            self._schemas[schema_id] = fastavro.parse_schema(json.loads(self._registry.by_id(schema_id)))
        reader = io.BytesIO(data[_HEAD.size :])
        found: dict[str, Any] = fastavro.schemaless_reader(reader, self._schemas[schema_id], None)
        return found


Step = tuple[str, tuple[str, ...], str, int]


def steps(changes: Iterable[Change]) -> list[Step]:
    """(table, key, op, version) of each change, repeats collapsed by LSN: op `d` has the version it ended."""
    seen: set[tuple[int, str, tuple[str, ...]]] = set()
    found = []
    for change in changes:
        identity = (change.lsn, change.table, change.key)
        if identity in seen:
            continue
        seen.add(identity)
        row = change.after if change.after is not None else change.before
        assert row is not None
        found.append((change.table, change.key, change.op, row["version"]))
    return found


def faults(committed: list[Step], found: list[Step]) -> list[str]:
    """What is wrong with what was captured, against what was committed, by ids: nothing may be missing or
    invented, and of one row the order must be the same."""
    troubles = [f"missing: {step}" for step in sorted(set(committed) - set(found))]
    troubles += [f"never committed: {step}" for step in sorted(set(found) - set(committed))]
    if len(found) != len(set(found)):
        troubles.append("a change stands twice under two LSNs")
    for key in {(table, key) for table, key, _, _ in committed}:
        wanted = [step for step in committed if step[:2] == key]
        if [step for step in found if step[:2] == key] != wanted and not troubles:
            troubles.append(f"out of order: {key}")
    return troubles


def final_rows(changes: Iterable[Change], table: str) -> dict[tuple[str, ...], dict[str, Any]]:
    """The table as its changes leave it."""
    rows: dict[tuple[str, ...], dict[str, Any]] = {}
    newest: dict[tuple[str, ...], int] = {}
    for change in changes:
        if change.table != table or change.lsn < newest.get(change.key, -1):
            continue
        newest[change.key] = change.lsn
        if change.after is None:
            rows.pop(change.key, None)
        else:
            rows[change.key] = change.after
    return rows


def quantile_ms(latencies_s: Iterable[float], share: float) -> float:
    ordered = sorted(latencies_s)
    return ordered[min(int(share * len(ordered)), len(ordered) - 1)] * 1000


def metric(text: str, name: str, **labels: str) -> float:
    """One sample of a Prometheus exposition."""
    for line in text.splitlines():
        head, _, value = line.rpartition(" ")
        if head.partition("{")[0] == name and all(
            f'{key}="{wanted}"' in head for key, wanted in labels.items()
        ):
            return float(value)
    raise AssertionError(f"no metric {name} {dict(labels)}")


def told(entry: Mapping[str, Any]) -> str:
    return f"{entry['name']} is {entry['state']}: {entry['reason']}"
