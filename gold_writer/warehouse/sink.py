"""The sink that `streamkit.sink_runner.SinkRunner` drives: batches in, rows and positions in Postgres.

The commit protocol of one batch, with the same numbers in `store.py`:

1. Leave out the records below the stored positions (a commit whose answer got lost may have stored them).
2. Decode, and make CSV of the rest. Nothing is open in Postgres yet.
3. Begin a transaction.
4. Move the positions by compare-and-set: each partition's row must hold the topic id and the next offset that
   this process left there. If not, another writer owns it: roll back and stop. It is the first statement
   because it locks the rows: a second writer waits here, then finds that they have moved.
5. Make the calendar rows and the monthly partitions that the batch needs.
6. COPY the CSV into temporary tables.
7. Upsert facts (where the revision is higher; what it replaces is kept aside), stub rows of dimensions,
   quarantine items and versions of dimensions.
8. Commit. Rows and positions become visible together; then the runner tells Kafka, for the lag display.

Death before 8 leaves nothing; after it, the next process starts behind the batch. Where the answer to 8 is
lost, the positions are read again before the next attempt, and 1 makes it a no-op if the commit had happened.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Iterable, Mapping, Sequence
from typing import Any, Protocol, TypeVar

from gold_writer.warehouse.batch import Position, Positions, Write
from gold_writer.warehouse.metrics import WarehouseMetrics
from gold_writer.warehouse.pipeline import WarehousePipeline
from gold_writer.warehouse.store import AnotherWriter, StoreUnavailable
from schemas.registry import RegistryUnavailable
from streamkit.clock import Clock
from streamkit.crashpoints import crash_point
from streamkit.ports import BrokerError, Paused, RecordBatch, TopicPartition

TopicIds = Callable[[Sequence[str]], Mapping[str, str]]
_T = TypeVar("_T")


class Store(Protocol):
    """What the sink needs of `store.PostgresStore`, which says what each call promises."""

    async def positions(self, topic_ids: Mapping[TopicPartition, str]) -> dict[TopicPartition, Position]: ...

    async def write(self, write: Write) -> None: ...

    async def close(self) -> None: ...


class OtherTopic(Exception):  # noqa: N818 - reads as what happened
    """The stored positions belong to another topic of the same name."""


class WarehouseSink:
    """Not thread-safe: it belongs to the thread of its runner. Has an event loop of its own, for asyncpg."""

    def __init__(
        self,
        store: Store,
        pipeline: WarehousePipeline,
        topic_ids: TopicIds,
        *,
        metrics: WarehouseMetrics,
        clock: Clock,
    ) -> None:
        """`topic_ids` asks Kafka for the ids of topics by name."""
        self._store = store
        self._metrics = metrics
        self._clock = clock
        self._pipeline = pipeline
        self._topic_ids = topic_ids
        self._positions = Positions()
        self._in_doubt = False
        self._closed = False
        self._loop = asyncio.Runner()

    def start_offsets(self, partitions: Sequence[TopicPartition]) -> Mapping[TopicPartition, int]:
        """The stored next offsets, 0 for a partition that is new here.

        Raises `OtherTopic` where Kafka's topic is not the one that the positions were stored for, and
        `Paused` while Postgres or Kafka cannot be asked.
        """
        try:
            ids = self._topic_ids(sorted({tp.topic for tp in partitions}))
        except BrokerError as error:
            raise Paused(partitions, f"topic ids: {error}") from error
        current = {tp: ids[tp.topic] for tp in partitions}
        stored = self._call(self._store.positions(current), partitions)
        check_topics(stored, current)
        self._positions.known.update(stored)
        return {tp: position.next_offset for tp, position in stored.items()}

    def write(self, batches: Sequence[RecordBatch]) -> None:
        """Store one poll's records in one transaction (see the module). Raises `Paused` while Postgres or
        the registry is down, `AnotherWriter` or `CorruptInput` where the stage must stop."""
        partitions = [tp for batch in batches for tp in batch.next_offsets()]
        if self._in_doubt:
            self._reload(partitions)
        try:
            write = self._pipeline.prepare(batches, self._positions)  # 1, 2
        except RegistryUnavailable as error:
            raise Paused(partitions, f"registry: {error}") from error
        if not write.moves:
            return
        crash_point("warehouse-after-prepare")
        began = self._clock.monotonic_s()
        self._call(self._store.write(write), partitions)  # 3-8
        crash_point("warehouse-after-commit")
        self._positions.moved(write.moves)
        self._metrics.committed(
            facts=write.sales.count if write.sales else 0,
            quarantined=write.quarantine.count if write.quarantine else 0,
            seconds=self._clock.monotonic_s() - began,
            versions={each.table.name: each.count + len(each.withdrawn) for each in write.versions},
        )

    def close(self) -> None:
        """May be called twice; nothing else may follow."""
        if not self._closed:
            self._closed = True
            self._loop.run(self._store.close())
            self._loop.close()

    def _reload(self, partitions: Sequence[TopicPartition]) -> None:
        """Learn whether the last commit happened."""
        known = self._positions.known
        stored = self._call(self._store.positions({tp: at.topic_id for tp, at in known.items()}), partitions)
        for tp, position in stored.items():
            if position.next_offset < known[tp].next_offset or position.topic_id != known[tp].topic_id:
                raise AnotherWriter(f"the stored position of {tp.topic}[{tp.partition}] went back")
        known.update(stored)
        self._in_doubt = False

    def _call(self, call: Coroutine[Any, Any, _T], partitions: Iterable[TopicPartition]) -> _T:
        try:
            return self._loop.run(call)
        except StoreUnavailable as error:
            self._in_doubt = True
            raise Paused(partitions, str(error), retry_after_s=0.1) from error


def check_topics(stored: Mapping[TopicPartition, Position], current: Mapping[TopicPartition, str]) -> None:
    """Refuse positions of a topic that was deleted and made again: its offsets mean other records."""
    for tp, position in stored.items():
        if position.topic_id != current[tp]:
            name = f"{tp.topic}[{tp.partition}]"
            raise OtherTopic(
                f"the warehouse has read {name} up to offset {position.next_offset} of topic id "
                f"{position.topic_id}, but Kafka's {tp.topic} has the id {current[tp]}: the topic was made "
                "anew. If that is a mistake, point TILLSTREAM_KAFKA or TILLSTREAM_POSTGRES at the right "
                "server. If the new topic is to be read from its beginning into the same tables, delete this "
                f"consumer's rows from ops.stream_offsets WHERE topic = '{tp.topic}' and start again; events "
                "that are there already change nothing."
            )
