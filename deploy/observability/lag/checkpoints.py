"""The lake's positions, from the checkpoints of its Spark queries.

Spark commits no offsets to Kafka. A query's checkpoint holds `offsets/N`, the plan of batch N with the end
offset of each partition, and `commits/N` once the batch is in the table; both are small text files
(org.apache.spark.sql.execution.streaming.OffsetSeqLog and CommitLog).
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

from deploy.observability.lag.model import Position
from streamkit.ports import TopicPartition


class CheckpointPositions:
    """`pipeline.Elsewhere` of a folder of checkpoints, one per query.

    Each query is a group `GROUP.QUERY`; `GROUP` itself stands where the slowest of them does, partition by
    partition: what a reader of the whole lake has to wait for.
    """

    def __init__(self, folder: Path, group: str = "tillstream.lake") -> None:
        self._folder = folder
        self._group = group

    def __call__(self) -> list[Position]:
        """Empty while there is no query. Raises OSError where the folder cannot be read."""
        if not self._folder.is_dir():
            return []
        each = [
            Position(f"{self._group}.{query.name}", tp, offset)
            for query in sorted(self._folder.iterdir())
            if (query / "offsets").is_dir()
            for tp, offset in committed(query).items()
        ]
        slowest: dict[TopicPartition, int] = {}
        for p in each:
            assert p.offset is not None
            slowest[p.partition] = min(p.offset, slowest.get(p.partition, p.offset))
        return [*each, *(Position(self._group, tp, offset) for tp, offset in slowest.items())]


def committed(query: Path) -> dict[TopicPartition, int]:
    """Next offset per partition after the last batch that is in the table. Raises OSError."""
    for batch in sorted(_batches(query / "commits"), reverse=True):
        try:
            return _offsets((query / "offsets" / str(batch)).read_text())
        except FileNotFoundError:
            continue  # Spark removes old batches meanwhile
    # Planned at its first start, and nothing committed yet: it stands at the beginning.
    return {}


def _batches(folder: Path) -> Iterator[int]:
    if folder.is_dir():
        yield from (int(file.name) for file in folder.iterdir() if file.name.isdecimal())


def _offsets(text: str) -> dict[TopicPartition, int]:
    """A version line, a line of metadata, then one JSON object a source: {topic: {partition: offset}}."""
    found: dict[TopicPartition, int] = {}
    for line in text.splitlines()[2:]:
        source = json.loads(line) if line.startswith("{") else {}
        for topic, offsets in source.items():
            found |= {TopicPartition(topic, int(p)): int(offset) for p, offset in offsets.items()}
    return found
