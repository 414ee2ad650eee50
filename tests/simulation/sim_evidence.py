"""What a drained world holds, decoded for the laws and the ledger."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING

from streamkit.memory import Record
from tests.simulation import sim_model
from tests.simulation.sim_items import DECISIONS, ENRICHED, RAW, TOPICS, Item, items
from tests.simulation.sim_machine import settle
from tests.simulation.sim_model import Coordinates, RawRecord
from tests.simulation.sim_wire import Row, decode

if TYPE_CHECKING:
    from tests.simulation.sim_world import World

Placed = list[tuple[int, Record]]
"""Records with their partitions."""


class Evidence:
    """What the drained world holds, decoded once."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.placed = {t: placed(world, t) for t in TOPICS}
        self.rows = {t: _rows(t, at) for t, at in self.placed.items() if t != RAW}
        self.log = [_raw_record(partition, record) for partition, record in self.placed[RAW]]
        self.expected = sim_model.expect(self.log, world.partitions)
        self.decided = [
            {**row, "at": (batch["partition"], row["offset"])}
            for batch in self.rows[DECISIONS]
            for row in batch["rows"]
        ]
        self.facts = _rows(ENRICHED, world.tables["fact"].rows)


def placed(world: World, topic: str) -> Placed:
    settle(world.broker)
    return [
        (tp.partition, record)
        for tp in world.broker.partitions(topic)
        for record in world.broker.log(tp).read(0, world.broker.log(tp).high_watermark)
    ]


def _rows(topic: str, at: Placed) -> list[Row]:
    return decode(topic, [record for _, record in at]) if at else []


def _raw_record(partition: int, record: Record) -> RawRecord:
    headers = dict(record.headers)
    origin: Coordinates | None = None
    if marked := headers.get("rerouted-from"):
        left, right = marked.decode().split(":")
        origin = int(left), int(right)
    return RawRecord(
        at=(partition, record.offset),
        item=_items()[record.value],
        seq=int(headers["seq"] or b"0"),
        came_from=origin,
        trace=(headers["traceparent"] or b"").decode(),
    )


@cache
def _items() -> dict[bytes | None, Item]:
    return {item.value: item for item in items()}
