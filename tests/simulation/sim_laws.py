"""The laws, checked by ids against the reference model once a schedule has drained."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from quality_service.entries import State, event_keys
from quality_service.restore import restore
from schemas.decisions import Outcome
from streamkit.memory import Record
from streamkit.ports import TopicPartition
from tests.simulation.sim_aggregates import newest, recount
from tests.simulation.sim_entries import entries
from tests.simulation.sim_evidence import Evidence
from tests.simulation.sim_items import ENRICHED, QUARANTINE, RAW, VALIDATED, items
from tests.simulation.sim_ledger import Entries
from tests.simulation.sim_machine import Life
from tests.simulation.sim_model import (
    ACCEPTED,
    CONFLICT,
    REJECTED,
    REROUTED,
    RESOLVING,
    Expected,
    item_id,
)
from tests.simulation.sim_services import TOTALS
from tests.simulation.sim_wire import Changelog, Row

if TYPE_CHECKING:
    from tests.simulation.sim_world import World


class LawBroken(AssertionError):  # noqa: N818 - reads as what happened
    """A law, and what in the world breaks it."""

    def __init__(self, law: str, what: str) -> None:
        super().__init__(f"{law}: {what}")
        self.law = law


def check(world: World) -> Entries:
    """Raises `LawBroken`. Returns what the ledger's books would be told, to be audited with other
    schedules."""
    if world.unexpected:
        raise LawBroken("L5", f"a process ended in a way that no fault explains: {world.unexpected}")
    found = Evidence(world)
    conservation(found)
    once(found)
    if TOTALS in world.services():
        aggregated(found)
    remembered(found)
    fidelity(found)
    return entries(found)


def same(law: str, what: str, found: Iterable[Any], expected: Iterable[Any]) -> None:
    """Compare as bags: how often counts, order does not."""
    have, want = Counter(found), Counter(expected)
    if have != want:
        few, many = (sorted(difference.elements(), key=str) for difference in (want - have, have - want))
        raise LawBroken(law, f"{what}: too few {few}, too many {many}")


def conservation(found: Evidence) -> None:
    """L1: every acknowledged receipt is in the log; each record of it has one outcome, the right one."""
    receipts = [record for record in found.log if record.came_from is None]
    same("L1", "receipts in the raw topic", [r.seq for r in receipts], {r.seq for r in receipts})
    lost = found.world.acknowledged - {r.seq for r in receipts}
    if lost:
        raise LawBroken("L1", f"acknowledged and not in the raw topic: {sorted(lost)}")
    fates = found.expected.fates
    same(
        "L1",
        "decisions",
        ((row["at"], Outcome(row["outcome"]).name) for row in found.decided),
        ((at, fate.outcome) for at, fate in fates.items()),
    )
    came = [(r.came_from, r.seq) for r in found.log if r.came_from is not None]
    same("L1", "rerouted records", came, [(f.record.at, f.record.seq) for f in found.expected.of(REROUTED)])
    for row in found.decided:
        if row["event_id"] != fates[row["at"]].record.item.event_id:
            raise LawBroken("L1", f"decided as another event: {row}")
    _consistent_hashes(found)


def _consistent_hashes(found: Evidence) -> None:
    """The content hash stands for the content: equal where that is, else different."""
    hashes: dict[tuple[str, str], set[str]] = {}
    for row in found.decided:
        item = found.expected.fates[row["at"]].record.item
        hashes.setdefault((item.event_id, item.content), set()).add(row["content_hash"])
    of_events = Counter((event, found_hash) for (event, _), each in hashes.items() for found_hash in each)
    if any(len(each) > 1 for each in hashes.values()) or any(n > 1 for n in of_events.values()):
        raise LawBroken("L1", f"content hashes do not follow the content: {hashes}")


def once(found: Evidence) -> None:
    """L2: one gold row for each accepted event in every store, of the record that was accepted."""
    accepted = found.expected.of(ACCEPTED, RESOLVING)
    gold = [(f.record.item.event_id, f.record.at) for f in accepted]
    if len({event for event, _ in gold}) != len(gold):
        raise LawBroken("L2", f"the model accepted an event twice: {gold}")
    warehouse = found.world.database.tables.facts.values()
    for name, rows in (
        ("validated topic", found.rows[VALIDATED]),
        ("enriched topic", found.rows[ENRICHED]),
        ("lake", found.facts),
        ("warehouse", warehouse),
    ):
        same(
            "L2", name, ((r["event_id"], (int(r["raw_partition"]), int(r["raw_offset"]))) for r in rows), gold
        )
    same("L2", "lake and warehouse", map(_content, warehouse), map(_content, found.facts))


def aggregated(found: Evidence) -> None:
    """L2 and L3: the newest totals of every window equal a plain recount of the accepted sales."""
    have, want = newest(found), recount(found)
    same("L2", "totals of windows", have.items(), want.items())


def _content(row: Row) -> tuple[str, str, int, int]:
    return (
        row["event_id"],
        row["content_hash"],
        int(row.get("validated_partition", 0)),
        int(row.get("validated_offset", 0)),
    )


def remembered(found: Evidence) -> None:
    """L3: the id store of every partition, wherever it has been, holds what the log in its order leads to."""
    world, model = found.world, found.expected
    for slot in world.slots:
        if slot.process:
            slot.process.life.alive = False
    committed = world.broker.committed_offsets("tillstream.quality")
    hashes = {
        (said.event_id, said.content): row["content_hash"]
        for row in found.decided
        for said in [model.fates[row["at"]].record.item]
    }
    for disk in world.disks():
        for partition in range(world.partitions):
            store = disk.open(world.raw.topic_id, partition, Life("the check"))
            at = committed.get(TopicPartition(RAW, partition))
            if store.progress() is None and world.sent % 4:
                continue  # restoring from nothing costs most; now and then is enough
            restore(
                store,
                Changelog(world.broker),
                topic_id=world.raw.topic_id,
                partition=partition,
                committed=-1 if at is None else at,
                clock=world.clock,
            )
            _compare_store(store, partition, model, hashes)


def _compare_store(
    store: Any, partition: int, model: Expected, hashes: Mapping[tuple[str, str], str]
) -> None:
    ids = sorted({key.partition("@")[0] for key in model.homes} | {i.event_id for i in items()[:3]})
    keys = event_keys(pl.Series(ids, dtype=pl.String))
    order = np.argsort(keys)
    rows = store.look_up(keys[order])
    for place, row in zip(order.tolist(), rows, strict=True):
        event = ids[place]
        memory = model.memory.get(event if model.homes.get(event) == partition else f"{event}@{partition}")
        state = State(int(row["state"])).name
        have = (state, row["hash"].ljust(16, b"\0").hex(), int(row["offset"])) if state != "NONE" else None
        want = (memory.state, hashes[event, memory.content], memory.at[1]) if memory else None
        if have != want:
            raise LawBroken("L3", f"id store {partition}, event {event}: {have}, not {want}")


def fidelity(found: Evidence) -> None:
    """L4: refused records are kept with bytes, reason, coordinates and trace; bronze is raw."""
    world, topic_id = found.world, found.world.raw.topic_id
    refused = found.expected.of(REJECTED, CONFLICT)
    items_of_quality = [row for row in found.rows[QUARANTINE] if row["stage"] == "quality"]
    same(
        "L4",
        "open items",
        (
            (
                r["item_id"],
                r["reason"],
                bytes(r["payload"]),
                r["topic_id"],
                (r["partition"], r["offset"]),
                r["traceparent"],
            )
            for r in items_of_quality
            if r["state"] == "OPEN"
        ),
        (
            (
                item_id(topic_id, f.record.at),
                f.reason,
                f.record.item.value or b"",
                topic_id,
                f.record.at,
                f.record.trace,
            )
            for f in refused
        ),
    )
    same(
        "L4",
        "resolved items",
        (r["item_id"] for r in items_of_quality if r["state"] == "RESOLVED"),
        (item_id(topic_id, f.resolves) for f in found.expected.of(RESOLVING) if f.resolves),
    )
    ingest = [row["item_id"] for row in found.rows[QUARANTINE] if row["stage"] == "ingest"]
    same("L4", "ingest's items", ingest, world.ingest_items)
    on_topic = [(p, r.offset) for p, r in found.placed[QUARANTINE]]
    same("L4", "quarantine in the warehouse", list(world.database.tables.quarantine), on_topic)
    for table, topic in (("bronze", RAW), ("quarantine", QUARANTINE)):
        held, there = world.tables[table].rows, found.placed[topic]
        same("L4", f"{table} of the lake", map(_bytes, held), map(_bytes, there))


def _bytes(placed: tuple[int, Record]) -> tuple[int, int, bytes | None]:
    return placed[0], placed[1].offset, placed[1].value
