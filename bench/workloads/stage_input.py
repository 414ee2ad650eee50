"""The input topic of a stage benchmark, and what must come out of it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from bench.harness.broker import Broker, digest
from bench.peers.protocol import Config
from bench.transform import by_record, dataset, reference


@dataclass(frozen=True, slots=True)
class Input:
    """`expected` is the digest of the right output, by the plain per-record code; `kept` its event ids."""

    topic: str
    records: int
    ends: dict[int, int]
    expected: str
    kept: frozenset[str]

    def config(
        self, broker: Broker, name: str, folder: Path, *, commit_every: int, durable: bool = False
    ) -> Config:
        """A run called `name`, with an output topic and a group of that name."""
        return Config(
            bootstrap=broker.bootstrap,
            topic_in=self.topic,
            topic_out=f"{name}.out",
            topic_decisions=f"{name}.decisions",
            group=name,
            state=str(folder / name),
            reference=str(reference_file(folder)),
            records=self.records,
            ends=self.ends,
            commit_every=commit_every,
            durable=durable,
        )


def reference_file(folder: Path) -> Path:
    path = folder / "reference.json"
    if not path.exists():
        path.write_text(json.dumps(reference.build()))
    return path


def fill(broker: Broker, topic: str, records: int, partitions: int) -> Input:
    """Produce the dataset and work out what the stage must make of it."""
    broker.create(topic, partitions=partitions)
    process = by_record.stage(reference.build())
    wanted: list[bytes] = []

    def parts() -> Iterator[tuple[list[bytes], list[bytes]]]:
        for chunk in dataset.chunks(records):
            wanted.extend(out[1] for value in chunk.values if (out := process(value)) is not None)
            yield chunk.keys, chunk.values

    broker.fill(topic, parts())
    ends = broker.ends(topic)
    if sum(ends.values()) != records:
        raise RuntimeError(f"{topic} holds {sum(ends.values())} records and not {records}")
    return Input(topic, records, ends, digest(wanted), frozenset(map(by_record.event_id_of, wanted)))
