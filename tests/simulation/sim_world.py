"""The world of one schedule: a broker, stores that outlive processes, slots with processes in them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

import polars as pl

from gold_writer.aggregates.changelog import StateError
from gold_writer.warehouse.store import AnotherWriter
from quality_service.lmdb_store import LmdbStores
from quality_service.memory_store import MemoryStores
from quality_service.pipeline import RawTopic
from quality_service.restore import OffsetsMovedBack
from quality_service.store import StoreError
from streamkit.memory import MemoryProducer
from streamkit.ports import BrokerError, NewTopic, OutputBatch
from tests.simulation.sim_items import (
    AGGREGATES,
    DECISIONS,
    ENRICHED,
    QUARANTINE,
    RAW,
    TOPICS,
    Item,
    murmur2,
    schemas,
    uuid5,
)
from tests.simulation.sim_light import packed
from tests.simulation.sim_machine import Killed, SimBroker, SimClock
from tests.simulation.sim_services import (
    ENRICH,
    LAKE,
    QUALITY,
    TOTALS,
    WAREHOUSE,
    Parts,
    Process,
    build,
    limits,
)
from tests.simulation.sim_stores import Checkpoint, Database, Disk, Table

LMDB_BYTES = 1 << 22


class Broken(Exception):  # noqa: N818 - an instruction to a process
    """An error that no step of any protocol knows."""


EXPECTED_ENDS = (BrokerError, StoreError, StateError, AnotherWriter, Broken)
"""With what a process may end under the faults of the simulation; its supervisor starts it again."""


@dataclass
class Slot:
    service: str
    number: int
    process: Process | None = None
    wanted: bool = True
    orphan: bool = False
    """Of a process whose slot has another one now, and that has not noticed yet."""

    @property
    def name(self) -> str:
        return f"{self.service}.{self.number}"


class World:
    """`real`: the real pipelines instead of their stand-ins. `lmdb`: the folder of id stores on disk, or
    None."""

    def __init__(self, rng: Random, parts: Parts, *, real: bool, lmdb: Path | None) -> None:
        self.rng, self.parts, self.real = rng, parts, real
        self.partitions = rng.randint(1, 3)
        self.clock = SimClock()
        self.broker = SimBroker(clock=self.clock)
        counts = {RAW: self.partitions, DECISIONS: self.partitions}
        counts[ENRICHED] = counts[AGGREGATES] = rng.randint(1, 2)
        for topic in TOPICS:
            self.broker.create_topic(NewTopic(topic, counts.get(topic) or rng.randint(1, 2)))
        self.raw = RawTopic(RAW, self.broker.topic_id(RAW), self.partitions)
        self.limits = limits(rng.randint(1, 5))
        self.registry_up, self.quarantine_down = True, False
        self.database = Database()
        self.tables = {name: Table() for name in ("fact", "bronze", "quarantine")}
        self.checkpoints = {name: Checkpoint() for name in self.tables}
        self._lmdb = lmdb
        self._one_disk = rng.random() < 0.5
        self._disks: dict[int, Disk] = {}
        self._lost = 0
        services = [QUALITY, ENRICH, WAREHOUSE, LAKE] + [TOTALS] * rng.randrange(2)
        self.slots = [Slot(s, 0) for s in services]
        self.slots += [Slot(s, 1, wanted=False) for s in services if s != LAKE and rng.random() < 0.4]
        self.running: list[Process] = []
        self.actions: list[str] = []
        self.baits: dict[str, list[tuple[str, Callable[[], BaseException], bool]]] = {}
        self.unexpected: list[str] = []
        self.sent = 0
        self.acknowledged: set[int] = set()
        self.ingest_items: list[str] = []
        self._producer = MemoryProducer(self.broker)

    def note(self, action: str) -> None:
        self.actions.append(f"{self.clock.monotonic_s():7.1f} {'  ' * len(self.running)}{action}")

    def services(self) -> set[str]:
        return {slot.service for slot in self.slots}

    def disk_of(self, slot: int) -> Disk:
        machine = self._machine(slot)
        if machine not in self._disks:
            stores = (
                LmdbStores(self._lmdb / f"disk-{machine}-{self._lost}", max_bytes=LMDB_BYTES)
                if self._lmdb
                else MemoryStores()
            )
            self._disks[machine] = Disk(stores)
        return self._disks[machine]

    def lose_disk(self, process: Process) -> None:
        """The machine of a quality process is gone, with all that ran there and its id stores."""
        machine = self._machine(process.slot)
        self.note(f"machine {machine} is gone with its disk")
        for slot in list(self.slots):
            if slot.service == QUALITY and slot.process and self._machine(slot.number) == machine:
                self.bury(slot.process)
        self._disks.pop(machine).close()
        self._lost += 1

    def _machine(self, slot: int) -> int:
        return 0 if self._one_disk else slot

    def disks(self) -> list[Disk]:
        return list(self._disks.values())

    # Processes --------------------------------------------------------------------------------------

    def step(self, slot: Slot) -> bool:
        """One step of the slot's process, started where there is none. True if it wrote something."""
        if slot.process is None and slot.orphan:
            return False
        if slot.process is None:
            slot.process = build(self, slot.service, slot.number)
            for call, error, after in self.baits.pop(slot.service, []):
                slot.process.faults.plan(call, error, after=after)
        process = slot.process
        if process.frozen:
            return False
        self.running.append(process)
        try:
            if not process.started:
                process.started = True
                process.steps.start()
            wrote = process.steps.step()
        except Killed:
            self.bury(process)
            return True
        except Exception as error:
            self._ended(process, error)
            return True
        finally:
            self.running.pop()
        return wrote

    def _ended(self, process: Process, error: Exception) -> None:
        self.note(f"{process.name} ends: {type(error).__name__}: {error}")
        # One that lost its partitions while it was restoring them may find decisions that it did not expect.
        refused = isinstance(error, OffsetsMovedBack | StateError) or "lie inside the batch" in str(error)
        if (refused and not process.expelled) or not isinstance(error, EXPECTED_ENDS):
            self.unexpected.append(f"{process.name}: {type(error).__name__}: {error}")
        self.stop(process)

    def stop(self, process: Process) -> None:
        """Its last acts: leave the group, let go of the stores."""
        try:
            process.close()
        except Killed:
            pass
        except Exception as error:
            self.unexpected.append(f"{process.name} closing: {type(error).__name__}: {error}")
        process.life.alive = False
        self._leave(process)

    def bury(self, process: Process) -> None:
        """Killed: whatever was in memory is gone. The group notices now, or when the session times out."""
        if process.life.alive:
            self.note(f"{process.name} is killed")
        process.life.alive = False
        self._leave(process)
        if process.consumer is None:
            return
        if self.rng.random() < 0.7:
            process.consumer.lose_session()
        else:
            self.clock.after(self.rng.uniform(1, 15), process.consumer.lose_session)

    def _leave(self, process: Process) -> None:
        for slot in self.slots:
            if slot.process is process:
                slot.process = None
        self.slots = [slot for slot in self.slots if slot.process or not slot.orphan]

    # Producers --------------------------------------------------------------------------------------

    def send(self, items: list[Item], *, astray: float, acknowledged: bool, appended: bool = True) -> None:
        """Send raw records; `astray` is the share of those on a partition that is not theirs."""
        if self.broker.down:
            return
        seqs = list(range(self.sent, self.sent + len(items)))
        self.sent += len(items)
        partitions = [self._partition_for(item, astray) for item in items]
        self.note(f"send {[f'{s}:{i.name}>{p}' for s, i, p in zip(seqs, items, partitions, strict=True)]}")
        headers = [
            [
                ("ingest-ts", b"%d" % self.clock.now_ms()),
                ("traceparent", trace_of(seq).encode()),
                ("load-id", b"load-1"),
                ("seq", b"%d" % seq),
            ]
            for seq in seqs
        ]
        batch = OutputBatch(
            RAW, [i.value for i in items], [i.partition_key for i in items], headers, partitions
        )
        if appended:
            self._producer.produce([batch], 1.0)
        if acknowledged:
            self.acknowledged |= set(seqs)

    def _partition_for(self, item: Item, astray: float) -> int:
        if item.partition_key is None or self.rng.random() < astray:
            return self.rng.randrange(self.partitions)
        return murmur2(item.partition_key, self.partitions)

    def quarantine_at_ingest(self, body: str) -> None:
        """What ingest refuses by itself; the same body again has the same item id."""
        if self.broker.down:
            return
        item = uuid5("till-7", "", body)
        self.ingest_items.append(item)
        self.note(f"ingest quarantines {body}")
        row: dict[str, Any] = dict.fromkeys(
            ("event_id", "topic_id", "partition", "offset", "content_hash", "amount_micros", "traceparent")
        )
        row |= {"item_id": item, "state": "OPEN", "stage": "ingest", "reason": "NOT_JSON", "rules": []}
        row |= {"payload": body.encode(), "payload_format": "json", "ingest_ts": 0, "quarantined_ts": 0}
        if self.real:
            codec = schemas().codecs[QUARANTINE]
            frame = pl.DataFrame([row], schema_overrides={k: codec.columns[k] for k in row})
            value = codec.encode(frame, schemas().ids[QUARANTINE])[0]
        else:
            value = packed(row)
        self._producer.produce([OutputBatch(QUARANTINE, [value], [item.encode()])], 1.0)

    def close(self) -> None:
        for slot in self.slots:
            if slot.process:
                slot.process.life.alive = False
        for disk in self._disks.values():
            disk.close()


def trace_of(seq: int) -> str:
    return f"00-{seq:032x}-{seq + 1:016x}-01"
