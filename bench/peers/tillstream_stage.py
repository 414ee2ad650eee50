"""Ours: streamkit's runner, with parts of quality and enrich composed in one process.

Guarantee: exactly once; each batch with its outputs and offsets in one Kafka transaction. With `durable` the
ids are in quality's store (LMDB), and every decision in a changelog topic within the same transaction.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from bench.peers.protocol import Config, Reporter, say
from bench.transform.by_column import Stage
from bench.transform.dataset import raw_schema
from bench.transform.durable_ids import DurableIds
from bench.transform.reference import OUT_SCHEMA
from streamkit.clock import SystemClock
from streamkit.columns import BinaryColumn
from streamkit.kafka import Clients
from streamkit.limits import Limits
from streamkit.ports import OutputBatch, Participant, Paused, RecordBatch, TopicPartition
from streamkit.process import tune_garbage_collection
from streamkit.runner import Runner
from streamkit.stats import StageStats
from streamkit.telemetry import configure_logging


class TransformPipeline:
    """A `streamkit.ports.Pipeline`."""

    def __init__(self, config: Config, stage: Stage, reporter: Reporter, ids: DurableIds | None) -> None:
        self._config = config
        self._stage = stage
        self._reporter = reporter
        self._ids = ids
        self._gate = Path(config.gate) if config.gate else None

    def process(self, batch: RecordBatch) -> Sequence[OutputBatch]:
        self._wait_at_the_gate(batch)
        self._reporter.start()
        if self._ids is None:
            out = self._stage.process(batch.value)
            return [OutputBatch(self._config.topic_out, out.values, BinaryColumn.of_series(out.keys))]
        rows, valid = self._stage.judge(batch.value)
        accepted, decisions = self._ids.decide(rows, valid, batch)
        out = self._stage.finish(accepted)
        return [OutputBatch(self._config.topic_out, out.values, BinaryColumn.of_series(out.keys)), decisions]

    def _wait_at_the_gate(self, batch: RecordBatch) -> None:
        if self._gate is None:
            return
        if not self._gate.exists():
            raise Paused(batch.next_offsets(), "the benchmark has not begun", retry_after_s=0.05)
        self._gate = None


class Progress:
    """A `Participant` that counts what is committed, and ends the runner where all of it is."""

    def __init__(self, config: Config, reporter: Reporter) -> None:
        self._config = config
        self._reporter = reporter
        self._position: dict[int, int] = {}
        self.runner: Runner | None = None

    def assigned(self, offsets: Mapping[TopicPartition, int | None]) -> None:
        self._position |= {tp.partition: offset or 0 for tp, offset in offsets.items()}
        say("assigned", partitions=sorted(self._position))

    def revoked(self, partitions: Sequence[TopicPartition]) -> None:
        for tp in partitions:
            self._position.pop(tp.partition, None)
        say("assigned", partitions=sorted(self._position))

    def before_commit(self, next_offsets: Mapping[TopicPartition, int]) -> None:
        return None

    def after_commit(self, next_offsets: Mapping[TopicPartition, int]) -> None:
        moved = sum(end - self._position[tp.partition] for tp, end in next_offsets.items())
        self._position |= {tp.partition: end for tp, end in next_offsets.items()}
        self._reporter.add(moved)
        done = all(offset >= self._config.ends[p] for p, offset in self._position.items())
        if done and not self._config.forever and self.runner is not None:
            self.runner.stop()

    def after_abort(self) -> None:
        return None


def main(config: Config) -> None:
    configure_logging("bench")
    clock, reporter = SystemClock(), Reporter(config)
    stage = Stage(config.document(), raw_schema(), OUT_SCHEMA.read_text())
    ids = DurableIds(config, clock) if config.durable else None
    progress = Progress(config, reporter)
    participants: list[Participant] = [*([ids.state] if ids is not None else []), progress]
    slot = f"{config.group}.{config.worker}"
    clients = Clients(config.bootstrap)
    runner = Runner(
        clients.consumer(config.group, slot),
        clients.transactional(slot),
        TransformPipeline(config, stage, reporter, ids),
        topics=[config.topic_in],
        stats=StageStats("bench", clock),
        clock=clock,
        participants=participants,
        limits=Limits(max_records=config.commit_every, retry_max_s=0.1),
    )
    progress.runner = runner
    tune_garbage_collection()
    runner.run()
    reporter.end()


if __name__ == "__main__":
    main(Config.read(sys.argv[1]))
