"""What the ledger's books are told after a schedule, and what the reference model expects of them."""

from __future__ import annotations

from collections.abc import Mapping

from streamkit.memory import Record
from tests.simulation.sim_evidence import Evidence
from tests.simulation.sim_items import DECISIONS, ENRICHED, QUARANTINE, VALIDATED
from tests.simulation.sim_ledger import Entries
from tests.simulation.sim_model import ACCEPTED, CONFLICT, DUPLICATE, REJECTED, RESOLVING, RawRecord
from tests.simulation.sim_wire import Row


def entries(found: Evidence) -> Entries:
    """The rows of the ledger's books, and the model's figures."""
    world, expected = found.world, found.expected
    at = world.database.tables.positions
    numbers = {event: n for n, event in enumerate(sorted({row["event_id"] for row in found.decided}), 1)}
    resolved_events = {f.record.item.event_id for f in expected.of(RESOLVING)}
    resolved = [f for f in expected.of(REJECTED) if f.record.item.event_id in resolved_events]
    first_items = len(set(world.ingest_items))
    receipts = sum(r.came_from is None for r in found.log)
    return Entries(
        seed=0,
        raw=[_raw_entry(record) for record in found.log],
        decisions=[
            {
                **row,
                "partition": row["at"][0],
                "id": numbers[row["event_id"]],
                "at": 0,
                "reason": row.get("reason"),
            }
            for row in found.decided
        ],
        quarantine=[
            _quarantine_entry(r, p)
            for r, p in zip(found.rows[QUARANTINE], found.placed[QUARANTINE], strict=True)
        ],
        validated=_hops(found, VALIDATED, numbers),
        enriched=_hops(found, ENRICHED, numbers),
        lake=[
            _gold(row, numbers) | {"partition": p, "offset": record.offset, "ingest_ts": 0, "at": 0}
            for row, (p, record) in zip(found.facts, world.tables["fact"].rows, strict=True)
        ],
        warehouse=[_gold(row, numbers) for row in world.database.tables.facts.values()],
        positions={
            "quality": {b["partition"]: b["end_offset"] for b in found.rows[DECISIONS]},
            "enrich": {
                tp.partition: o for tp, o in world.broker.committed_offsets("tillstream.enrich").items()
            },
            "warehouse": {tp.partition: p.next_offset for tp, p in at.items() if tp.topic == ENRICHED},
        },
        figures={
            "accepted": receipts + len(world.ingest_items),
            "duplicates": len(expected.of(DUPLICATE)) + len(world.ingest_items) - first_items,
            "quarantined": len(expected.of(REJECTED, CONFLICT)) - len(resolved) + first_items,
            "resolved": len(resolved),
            "gold": len(expected.of(ACCEPTED, RESOLVING)),
        },
        times_entered=world.parts.times_entered,
    )


def _raw_entry(record: RawRecord) -> Row:
    origin = record.came_from or record.at
    return {
        "partition": record.at[0],
        "offset": record.at[1],
        "origin_partition": origin[0],
        "origin_offset": origin[1],
        "load_id": "load-1",
        "at": record.seq,
    }


def _quarantine_entry(row: Row, placed_at: tuple[int, Record]) -> Row:
    return {
        **{name: row[name] for name in ("item_id", "stage", "state", "event_id", "reason", "amount_micros")},
        "raw_partition": row["partition"], "raw_offset": row["offset"], "load_id": "load-1",
        "partition": placed_at[0], "offset": placed_at[1].offset, "at": 0,
    }  # fmt: skip


def _hops(found: Evidence, topic: str, numbers: Mapping[str, int]) -> list[Row]:
    return [
        {"id": numbers[row["event_id"]], "partition": p, "offset": record.offset, "at": 0}
        for row, (p, record) in zip(found.rows[topic], found.placed[topic], strict=True)
    ]


def _gold(row: Row, numbers: Mapping[str, int]) -> Row:
    """The amount has two names: rows of CSV carry it under that of the table's column."""
    amount = row["total_amount_micros"] if "total_amount_micros" in row else row["total_amount"]
    return {"id": numbers[row["event_id"]], "amount_micros": int(amount)}
