"""Stores that outlive their processes: id stores on disks with locks, a warehouse, a lake."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Mapping
from copy import deepcopy
from dataclasses import dataclass, field
from typing import Any

from gold_writer.warehouse.batch import Position, Rows, Sales, Write
from gold_writer.warehouse.columns import FACT, QUARANTINE
from gold_writer.warehouse.store import AnotherWriter, StoreUnavailable
from quality_service.entries import Keys, Records, Writes
from quality_service.store import IdStore, Progress, StoreError, Stores
from streamkit.crashpoints import crash_point
from streamkit.memory import MemoryBroker, Record
from streamkit.ports import TopicPartition
from tests.simulation.sim_machine import Life, settle

# Id stores ---------------------------------------------------------------------------------------------


class Disk:
    """The id stores of one machine: a store belongs to one living process at a time, as its lock file
    says."""

    def __init__(self, stores: Stores) -> None:
        self.stores = stores
        self._held: dict[tuple[str, int], OpenStore] = {}

    def open(self, topic_id: str, partition: int, life: Life) -> IdStore:
        holder = self._held.get((topic_id, partition))
        if holder is not None and holder.life.alive:
            raise StoreError(f"id store {partition} is held by {holder.life.name}")
        if holder is not None:
            holder.release()  # the kernel does it where a process dies
        opened = OpenStore(
            self.stores.open(topic_id, partition), life, lambda: self._free(topic_id, partition)
        )
        self._held[topic_id, partition] = opened
        return opened

    def _free(self, topic_id: str, partition: int) -> None:
        del self._held[topic_id, partition]

    def close(self) -> None:
        for opened in list(self._held.values()):
            opened.release()


class OpenStore:
    """An `IdStore` as long as its process lives."""

    def __init__(self, store: IdStore, life: Life, free: Callable[[], None]) -> None:
        self._store = store
        self.life = life
        self._free = free
        self._open = True

    def progress(self) -> Progress | None:
        self.life.check()
        return self._store.progress()

    def look_up(self, keys: Keys) -> Records:
        self.life.check()
        return self._store.look_up(keys)

    def look_up_conflicts(self, keys: Keys) -> Records:
        self.life.check()
        return self._store.look_up_conflicts(keys)

    def apply(self, writes: Writes, progress: Progress) -> None:
        self.life.check()
        self._store.apply(writes, progress)

    def count(self) -> int:
        return self._store.count()

    def size_bytes(self) -> int:
        return self._store.size_bytes()

    def close(self) -> None:
        self.life.check()
        self.release()

    def release(self) -> None:
        if self._open:
            self._open = False
            self._store.close()
            self._free()


class ProcessStores:
    """A `Stores` of one process on a disk."""

    def __init__(self, disk: Disk, life: Life) -> None:
        self._disk = disk
        self._life = life

    def open(self, topic_id: str, partition: int) -> IdStore:
        return self._disk.open(topic_id, partition, self._life)


# The warehouse -----------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class PlainRows(Sales):
    """Rows that skip their way through CSV."""

    rows: tuple[dict[str, Any], ...]


@dataclass
class Tables:
    """What is committed."""

    positions: dict[TopicPartition, Position] = field(default_factory=dict)
    facts: dict[str, dict[str, Any]] = field(default_factory=dict)
    quarantine: dict[tuple[int, int], dict[str, Any]] = field(default_factory=dict)


class Database:
    """Shared by every warehouse process; `down` while it cannot be reached."""

    def __init__(self) -> None:
        self.tables = Tables()
        self.down = False
        self.lose_next_answer = False
        self.slow: Callable[[], None] = lambda: None


class SimWarehouse:
    """The store that the warehouse's sink drives, with the steps and crash points of `PostgresStore`.

    Two transactions that move the same position exclude each other by its row lock in Postgres; here a
    transaction that finds at its commit that a position has moved meanwhile is the one that waited and lost.
    """

    def __init__(self, database: Database, life: Life) -> None:
        self._database = database
        self._life = life

    async def positions(self, topic_ids: Mapping[TopicPartition, str]) -> dict[TopicPartition, Position]:
        self._reach()
        stored = self._database.tables.positions
        for tp, topic_id in topic_ids.items():
            stored.setdefault(tp, Position(topic_id, 0))
        return {tp: stored[tp] for tp in topic_ids}

    async def write(self, write: Write) -> None:
        self._reach()
        tables = self._database.tables
        crash_point("warehouse-after-begin")
        self.check_moves(write)
        crash_point("warehouse-after-move")
        if write.sales is not None:
            crash_point("warehouse-after-calendar")
            crash_point("warehouse-after-copy")
        self._database.slow()
        crash_point("warehouse-after-upsert")
        self._life.check()
        self._reach()
        self.check_moves(write)
        self.upsert(tables, write)
        self.move(tables, write)
        if self._database.lose_next_answer:
            self._database.lose_next_answer = False
            raise StoreUnavailable("the answer to COMMIT was lost")

    def check_moves(self, write: Write) -> None:
        stored = self._database.tables.positions
        for move in write.moves:
            if stored.get(move.partition) != Position(move.topic_id, move.expected):
                raise AnotherWriter(
                    f"{move.partition} is at {stored.get(move.partition)}, not {move.expected}"
                )

    def upsert(self, tables: Tables, write: Write) -> None:
        for row in rows_of(write.sales, FACT):
            held = tables.facts.get(row["event_id"])
            if held is None or int(row["revision"]) > int(held["revision"]):
                tables.facts[row["event_id"]] = row
        for row in rows_of(write.quarantine, QUARANTINE):
            tables.quarantine[int(row["quarantine_partition"]), int(row["quarantine_offset"])] = row

    def move(self, tables: Tables, write: Write) -> None:
        for move in write.moves:
            tables.positions[move.partition] = Position(move.topic_id, move.following)

    async def close(self) -> None:
        """Nothing is held."""

    def _reach(self) -> None:
        if self._database.down:
            raise StoreUnavailable("connection refused")


def rows_of(staged: Rows | None, columns: Any) -> list[dict[str, Any]]:
    if staged is None:
        return []
    if isinstance(staged, PlainRows):
        return list(staged.rows)
    names = [column.name for column in columns]
    return [dict(zip(names, line, strict=True)) for line in csv.reader(io.StringIO(staged.csv.decode()))]


# The lake ----------------------------------------------------------------------------------------------


@dataclass
class Table:
    """A Delta table: rows with their coordinates, and the last batch number of each query that wrote it."""

    rows: list[tuple[int, Record]] = field(default_factory=list)
    versions: dict[str, int] = field(default_factory=dict)


@dataclass
class Checkpoint:
    """Of one query: the offset ranges planned, by batch number, and the last batch that is done."""

    planned: list[dict[int, tuple[int, int]]] = field(default_factory=list)
    done: int = -1


class LakeQuery:
    """A model of Spark's micro-batch query into Delta. Table and checkpoint outlive the process.

    1. Plan: write the offset ranges of batch n into the checkpoint. A batch that was planned and is not done
       is run again with the same ranges.
    2. Read them, committed records only.
    3. Append, unless the table says that this query's batch n is there.
    4. Mark the batch as done.
    """

    def __init__(
        self, name: str, topic: str, broker: MemoryBroker, table: Table, checkpoint: Checkpoint
    ) -> None:
        self.name = name
        self._topic = topic
        self._broker = broker
        self.table = table
        self._checkpoint = checkpoint

    def step(self) -> bool:
        number = self._plan()
        if number is None:
            return False
        crash_point("lake-after-plan")
        rows = [row for p, span in self._checkpoint.planned[number].items() for row in self._read(p, *span)]
        if not self.is_there(number):
            self.table.rows = [*self.table.rows, *rows]
            self.table.versions[self.name] = number
        crash_point("lake-after-append")
        self._checkpoint.done = number
        crash_point("lake-after-done")
        return True

    def is_there(self, number: int) -> bool:
        return self.table.versions.get(self.name, -1) >= number

    def _plan(self) -> int | None:
        checkpoint = self._checkpoint
        if len(checkpoint.planned) > checkpoint.done + 1:
            return checkpoint.done + 1
        last = checkpoint.planned[-1] if checkpoint.planned else {}
        settle(self._broker)
        spans = {
            tp.partition: (last.get(tp.partition, (0, 0))[1], self._broker.log(tp).last_stable_offset)
            for tp in self._broker.partitions(self._topic)
        }
        if all(begin == end for begin, end in spans.values()):
            return None
        checkpoint.planned.append(deepcopy(spans))
        return checkpoint.done + 1

    def _read(self, partition: int, begin: int, end: int) -> list[tuple[int, Record]]:
        log = self._broker.log(TopicPartition(self._topic, partition))
        return [(partition, record) for record in log.read(begin, end - begin) if record.offset < end]
