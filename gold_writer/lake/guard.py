"""Refuses to start where going on could lose or repeat rows.

Delta skips a batch whose number is not above the last one of the same query, and a query without its
checkpoint starts from the beginning under a new id. So these states are refused:

1. the topic is not the one that the table was written from (deleted and made anew);
2. the table has rows and its checkpoint is gone, or is another: all rows would be written again;
3. the checkpoint is older than the table (restored): its next batches would be skipped, their rows lost;
4. the table is older than the checkpoint (restored, or cut by a power failure): its last rows are missing.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from deltalake import DeltaTable

from gold_writer.lake.commits import unchanged_since
from gold_writer.lake.tables import TOPIC_ID_PROPERTY

RESUME_FILE: Final = "resume.json"
NONE: Final = -1

# An entry of Spark's commit log for a query without state or watermark.
_COMMIT_ENTRY: Final = 'v1\n{"nextBatchWatermarkMs":0}'


class Refused(Exception):  # noqa: N818
    """Starting would lose or repeat rows. The message says what to do."""


@dataclass(frozen=True, slots=True)
class Resume:
    """Where a new checkpoint begins: made by `rebuild`, valid until rows are appended to the table."""

    topic_id: str
    table_version: int
    offsets: dict[int, int]

    def write(self, checkpoint: Path) -> None:
        body = {"topic_id": self.topic_id, "table_version": self.table_version, "offsets": self.offsets}
        (checkpoint / RESUME_FILE).write_text(json.dumps(body), encoding="utf-8")

    @classmethod
    def read(cls, checkpoint: Path) -> Resume | None:
        try:
            body = json.loads((checkpoint / RESUME_FILE).read_text(encoding="utf-8"))
        except FileNotFoundError:
            return None
        offsets = {int(partition): int(offset) for partition, offset in body["offsets"].items()}
        return cls(str(body["topic_id"]), int(body["table_version"]), offsets)


@dataclass(frozen=True, slots=True)
class CheckpointState:
    """A query's checkpoint. `planned` and `committed` are batch numbers, NONE where there is none."""

    query_id: str | None
    planned: int
    committed: int
    resume: Resume | None

    @classmethod
    def read(cls, checkpoint: Path) -> CheckpointState:
        try:
            query_id = str(json.loads((checkpoint / "metadata").read_text(encoding="utf-8"))["id"])
        except FileNotFoundError:
            query_id = None
        return cls(
            query_id=query_id,
            planned=_last_batch(checkpoint / "offsets"),
            committed=_last_batch(checkpoint / "commits"),
            resume=Resume.read(checkpoint),
        )


@dataclass(frozen=True, slots=True)
class TableState:
    """A Delta table as the guard sees it. `batch`: the last one of the checkpoint's query, else NONE.

    `unchanged_since`: no rows were appended after this version; maintenance may have rewritten files.
    """

    name: str
    topic_id: str | None
    version: int
    batch: int
    has_rows: bool
    unchanged_since: int

    @classmethod
    def read(cls, name: str, path: Path, query_id: str | None) -> TableState:
        table = DeltaTable(str(path))
        batch = None if query_id is None else table.transaction_version(query_id)
        return cls(
            name=name,
            topic_id=table.metadata().configuration.get(TOPIC_ID_PROPERTY),
            version=table.version(),
            batch=NONE if batch is None else batch,
            has_rows=batch is not None or len(table.file_uris()) > 0,
            unchanged_since=unchanged_since(path, table.version()),
        )


def check(table: TableState, checkpoint: CheckpointState, topic: str, topic_id: str) -> dict[int, int] | None:
    """Offsets that a new checkpoint begins with, None for the beginning; an existing one keeps its own.

    Raises Refused.
    """
    if table.topic_id != topic_id:
        raise _refused(
            table, f"it was written from topic id {table.topic_id}, but {topic} now has the id {topic_id}"
        )
    if table.batch == NONE:
        return _first_start(table, checkpoint, topic_id)
    if checkpoint.committed > table.batch:
        raise _refused(
            table,
            f"its checkpoint has committed batch {checkpoint.committed}, but the table ends with batch "
            f"{table.batch}: rows are missing",
        )
    if table.batch > checkpoint.planned or table.batch > checkpoint.committed + 1:
        raise _refused(
            table,
            f"it ends with batch {table.batch}, but its checkpoint only knows {checkpoint.planned} "
            f"(committed: {checkpoint.committed}): the next batches would be skipped",
        )
    return None


def settle(checkpoint: Path, state: CheckpointState, batch: int) -> None:
    """Finish or forget the batch that was under way when the last process ended, so that none is run again.

    `batch`: the table's last. The guard has let the two pass. A planned batch that the table has is marked as
    committed; one that it has not is planned anew. Spark would do the same by running it again, but 4.1.1
    ends a query after such a batch (NullPointerException in KafkaMicroBatchStream.metrics).
    """
    if state.planned <= state.committed:
        return
    if batch == state.planned:
        commits = checkpoint / "commits"
        commits.mkdir(exist_ok=True)
        partial = checkpoint / "settled.tmp"
        partial.write_text(_COMMIT_ENTRY, encoding="utf-8")
        partial.rename(commits / str(batch))
    else:
        (checkpoint / "offsets" / str(state.planned)).unlink()


def _first_start(table: TableState, checkpoint: CheckpointState, topic_id: str) -> dict[int, int] | None:
    if checkpoint.committed != NONE:
        raise _refused(
            table,
            f"its checkpoint has committed batch {checkpoint.committed}, but the table holds none of them",
        )
    if not table.has_rows:
        return None
    resume = checkpoint.resume
    if (
        resume is not None
        and resume.topic_id == topic_id
        and table.unchanged_since <= resume.table_version <= table.version
    ):
        return resume.offsets
    if checkpoint.query_id is None:
        raise _refused(table, "it has rows, but its checkpoint is lost: every row would be written again")
    raise _refused(
        table, "it has rows, but none by the query of this checkpoint: every row would be repeated"
    )


def _refused(table: TableState, why: str) -> Refused:
    return Refused(
        f"the lake does not start on {table.name}: {why}. `tillstream rebuild lake` goes on after the "
        "last offset that the table holds."
    )


def _last_batch(folder: Path) -> int:
    """Highest number among the files of a checkpoint's log; temporary files have other names."""
    if not folder.is_dir():
        return NONE
    return max((int(entry.name) for entry in folder.iterdir() if entry.name.isdigit()), default=NONE)
