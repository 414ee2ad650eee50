"""Quix Streams: a stream of record values, `apply` and `to_topic`, exactly once.

Tuning: a commit every `commit_every` records (its default is every 5 seconds alone), bytes in and out so
that it converts nothing itself, lz4 and large batches. With `durable` the ids are in its RocksDB state, under
the record's key, which is the event id, and its changelog topic is on.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from quixstreams import Application

from bench.peers.protocol import Config, Reporter
from bench.transform.by_record import stage


class Step:
    """The two ways to say the stage in Quix; `key` is that of the record made last."""

    def __init__(self, config: Config, reporter: Reporter) -> None:
        self._reporter = reporter
        self._wanted = 0 if config.forever else config.records
        self.end: Callable[[], None] = lambda: None
        self.key: bytes = b""
        # In memory the stage keeps the ids itself; with state the answer is asked for before the stage.
        self._process = stage(config.document(), (lambda _: True) if config.durable else None)

    def _count(self) -> None:
        # Not `run(count=N)`: that counts outputs, and what the filter drops is none.
        if self._reporter.add() == self._wanted:
            self.end()

    def in_memory(self, value: bytes) -> bytes | None:
        self._count()
        out = self._process(value)
        if out is None:
            return None
        self.key = out[0]
        return out[1]

    def with_state(self, value: bytes, state: Any) -> bytes | None:
        self._count()
        # State is per message key, and the key is the event id.
        if state.get("seen") is not None:
            return None
        out = self._process(value)
        if out is None:
            return None
        state.set("seen", 1)
        self.key = out[0]
        return out[1]


def main(config: Config) -> None:
    reporter = Reporter(config)
    app = Application(
        broker_address=config.bootstrap,
        consumer_group=config.group,
        auto_offset_reset="earliest",
        processing_guarantee="exactly-once",
        commit_interval=1.0,
        commit_every=config.commit_every,
        loglevel="WARNING",
        state_dir=Path(config.state) / "quix",
        use_changelog_topics=config.durable,
        # A killed process is gone from its group after ten seconds, not 45.
        consumer_extra_config={"queued.min.messages": 100_000, "session.timeout.ms": 10_000},
        producer_extra_config={"linger.ms": 20, "batch.size": 1_000_000, "compression.type": "lz4"},
    )
    given = app.topic(config.topic_in, key_deserializer="bytes", value_deserializer="bytes")
    wanted = app.topic(config.topic_out, key_serializer="bytes", value_serializer="bytes")
    step = Step(config, reporter)
    frame: Any = app.dataframe(given)
    frame = frame.apply(step.with_state, stateful=True) if config.durable else frame.apply(step.in_memory)
    frame.filter(lambda out: out is not None).to_topic(wanted, key=lambda _: step.key)
    # It finishes the record in hand, and commits.
    step.end = app.stop
    app.run()
    reporter.end()


if __name__ == "__main__":
    main(Config.read(sys.argv[1]))
