"""What a peer and the harness say to each other. Standard library only: every peer's environment has it.

The harness starts a peer with the path of a configuration file. The peer writes one JSON object a line to
standard output:

    {"event": "start"}                  its first record is in hand
    {"event": "half"}                   half of the records are processed
    {"event": "progress", "records": n} from time to time, where the configuration asks for it
    {"event": "end", "records": n}      everything is processed, delivered and committed

At "end" it waits for its standard input to close, so that the harness can read its CPU time from /proc.
Everything else a peer has to say goes to standard error.
"""

from __future__ import annotations

import json
import os
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True, slots=True)
class Config:
    """One run of one peer.

    `ends`: partition -> offset after the last record of `topic_in`. `state`: a folder that outlives a crash.
    `reference`: the JSON file of `bench.transform.reference`. `commit_every`: records of one transaction,
    where the peer can be told. `progress_every`: 0 for none. `durable`: keep event ids where a crash cannot
    lose them. `forever`: do not end after `records`; the harness ends the peer (after a crash it cannot know
    the count). `gate`: a file to wait for before the first record is processed; empty for none.
    """

    bootstrap: str
    topic_in: str
    topic_out: str
    topic_decisions: str
    group: str
    state: str
    reference: str
    records: int
    ends: dict[int, int]
    commit_every: int = 10_000
    progress_every: int = 0
    durable: bool = False
    forever: bool = False
    gate: str = ""
    worker: int = 0

    def write(self, path: Path) -> None:
        path.write_text(json.dumps(asdict(self)))

    @classmethod
    def read(cls, path: str) -> Config:
        document = json.loads(Path(path).read_text())
        document["ends"] = {int(partition): offset for partition, offset in document["ends"].items()}
        return cls(**document)

    def document(self) -> dict[str, Any]:
        """The reference data."""
        loaded: dict[str, Any] = json.loads(Path(self.reference).read_text())
        return loaded


class Reporter:
    """Counts records and says what the harness waits for."""

    def __init__(self, config: Config) -> None:
        self._config = config
        self._records = 0
        self._started = False
        self._next = config.progress_every or config.records + 1
        self._half = config.records // 2

    def add(self, count: int = 1) -> int:
        """Take note of records processed; returns how many there are."""
        if not self._started:
            self.start()
        before = self._records
        self._records = after = before + count
        if before < self._half <= after:
            say("half")
        if after >= self._next:
            self._next += self._config.progress_every
            say("progress", records=after)
        return after

    def start(self) -> None:
        """The first record is in hand; for a peer that calls `add` only after its work."""
        if not self._started:
            self._started = True
            say("start")

    @property
    def records(self) -> int:
        return self._records

    def end(self) -> None:
        """Say so, and wait until the harness has looked."""
        say("end", records=self._records)
        sys.stdin.read()


def say(event: str, **more: object) -> None:
    os.write(1, (json.dumps({"event": event, **more}) + "\n").encode())
