"""The ledger's own reading of the topics comes to the model's figures, after schedules with the real
pipelines."""

from __future__ import annotations

from collections.abc import Sequence

import polars as pl
import pytest

from quality_service.ledger.books import LAKE, WAREHOUSE, Balance, Progress
from quality_service.ledger.follow import TOPICS, Follower
from schemas.identity import key64
from streamkit.memory import MemoryConsumer
from streamkit.ports import TopicPartition
from tests.simulation.sim_items import ENRICHED, schemas
from tests.simulation.sim_ledger import FIGURES
from tests.simulation.sim_schedule import Schedule
from tests.simulation.sim_wire import decode
from tests.simulation.sim_world import World


@pytest.mark.parametrize("seed", range(2_000, 2_008))
def test_ledger_balances_with_the_figures_of_the_model(seed: int) -> None:
    schedule = Schedule(seed, real=True)
    outcome = schedule.run()
    assert outcome.broken is None
    assert outcome.entries
    found = balance(schedule.world)
    assert {name: getattr(found, name) for name in FIGURES} == outcome.entries.figures
    assert (found.in_flight, found.balanced) == (0, True), found


def balance(world: World) -> Balance:
    consumer = MemoryConsumer(world.broker, "tillstream.ledger")
    follower = Follower(consumer, schemas().codecs)
    consumer.subscribe(TOPICS, on_assign=lambda tps: dict.fromkeys(tps, 0), on_revoke=ignore, on_lost=ignore)
    while batches := consumer.poll(7, 1 << 20, 0.0, 0.0):
        for batch in batches:
            follower._enter(batch)
    facts = world.tables["fact"].rows
    lake = [
        {
            "id": key64("sale", row["event_id"]),
            "partition": partition,
            "offset": record.offset,
            "amount_micros": row["total_amount_micros"],
            "ingest_ts": 0,
            "at": 0,
        }
        for row, (partition, record) in zip(
            decode(ENRICHED, [r for _, r in facts]) if facts else [], facts, strict=True
        )
    ]
    warehouse = [
        {"id": key64("sale", row["event_id"]), "amount_micros": int(row["total_amount"])}
        for row in world.database.tables.facts.values()
    ]
    positions = world.database.tables.positions
    progress = Progress(
        enrich={tp.partition: o for tp, o in world.broker.committed_offsets("tillstream.enrich").items()},
        warehouse={tp.partition: p.next_offset for tp, p in positions.items() if tp.topic == ENRICHED},
    )
    return follower.books.balance(
        pl.DataFrame(lake, schema=LAKE), pl.DataFrame(warehouse, schema=WAREHOUSE), progress
    )


def ignore(partitions: Sequence[TopicPartition]) -> None:
    """Nobody else is in the group."""
