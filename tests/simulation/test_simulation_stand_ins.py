"""The stand-ins for the column work answer as the real pipelines do, record by record."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from random import Random
from typing import Any

import numpy as np
import pytest

from gold_writer.aggregates.changelog import Chunk
from gold_writer.aggregates.state import AggregateState
from gold_writer.warehouse.batch import Position, Positions
from gold_writer.warehouse.columns import FACT
from gold_writer.warehouse.columns import QUARANTINE as ITEM
from quality_service.changelog import DecidedBatch
from quality_service.memory_store import MemoryStores
from quality_service.state import IdState
from streamkit.memory import Record
from streamkit.ports import OutputBatch, Paused, RecordBatch, TopicPartition
from tests.simulation.sim_aggregates import VALUES
from tests.simulation.sim_items import (
    AGGREGATES,
    DECISIONS,
    ENRICHED,
    QUARANTINE,
    RAW,
    VALIDATED,
    items,
    murmur2,
)
from tests.simulation.sim_light import knowledge
from tests.simulation.sim_services import (
    Parts,
    enrich_pipeline,
    quality_pipeline,
    totals_pipeline,
    warehouse_pipeline,
)
from tests.simulation.sim_stores import rows_of
from tests.simulation.sim_wire import decode
from tests.simulation.sim_world import World, trace_of

COMPARED = {
    VALIDATED: "event_id content_hash invoice_no raw_partition raw_offset",
    ENRICHED: (
        "event_id content_hash raw_partition raw_offset validated_partition validated_offset "
        "total_amount_micros revision"
    ),
    QUARANTINE: (
        "item_id state stage event_id content_hash reason payload topic_id partition offset "
        "amount_micros traceparent"
    ),
    DECISIONS: "topic_id partition begin_offset end_offset",
}
DECIDED = "offset event_id content_hash outcome"
Answer = tuple[str, list[Any], list[bytes | None], list[Any], list[int] | None]


class Chain:
    """Quality, enrich and the warehouse's pipeline; what quality decides is committed at once."""

    def __init__(self, *, real: bool, seed: int) -> None:
        self.world = World(Random(seed), Parts(), real=real, lmdb=None)
        raw = self.world.raw
        self.state = IdState(RAW, raw.topic_id, MemoryStores(), Nothing(), self.world.clock)
        self.state.assigned(dict.fromkeys(self.world.broker.partitions(RAW)))
        self.quality = quality_pipeline(self.world, self.state, [])
        self.enrich = enrich_pipeline(self.world)
        self.warehouse = warehouse_pipeline(self.world)
        self.sums = AggregateState(NoTotals(), self.world.clock)
        self.sums.assigned({TopicPartition(ENRICHED, 0): None})
        self.totals = totals_pipeline(self.world, self.sums)

    def decide(self, batch: RecordBatch) -> Sequence[OutputBatch]:
        outputs = self.quality.process(batch)
        self.state.before_commit(batch.next_offsets())
        self.state.after_commit(batch.next_offsets())
        return outputs

    def count(self, batch: RecordBatch) -> dict[bytes | None, list[int]]:
        (output,) = self.totals.process(batch)
        self.sums.after_commit(batch.next_offsets())
        rows = decode(AGGREGATES, [Record(0, 0, None, value, ()) for value in output.value])
        assert rows[-1]["grain"] == "total"
        return {
            key: [row[name] for name in (*VALUES, "input_offset")]
            for key, row in zip(output.key, rows, strict=True)
        }


class NoTotals:
    def read(self, partition: int, offset: int) -> Iterator[Chunk]:
        return iter(())


class Nothing:
    def read(self, topic_id: str, partition: int, after: int) -> Iterator[DecidedBatch]:
        return iter(())


def test_real_code_says_of_each_item_what_it_was_made_to_be() -> None:
    for item in items():
        known = knowledge()[item.value]
        assert (known.event_id, known.reason) == (item.event_id, item.reason), item.name
        assert known.readable == (item.partition_key is not None)
        assert known.amount_micros == item.amount_micros, item.name
        if item.partition_key:
            assert known.home == tuple(murmur2(item.partition_key, n) for n in (1, 2, 3))


@pytest.mark.parametrize("seed", range(6))
def test_the_chain_answers_as_the_real_one(seed: int) -> None:
    light, real = Chain(real=False, seed=seed), Chain(real=True, seed=seed)
    rng = Random(seed)
    pool = rng.sample(items(), 12)
    for at in range(0, 80, 8):
        batch = raw_batch(
            [rng.choice(pool).value for _ in range(rng.randint(1, 8))], light.world.partitions, at, rng
        )
        outputs = light.decide(batch), real.decide(batch)
        assert answers(outputs[0]) == answers(outputs[1])
        sold = [produced(outputs[i][0], VALIDATED, at) for i in range(2)]
        if len(sold[0]):
            enriched = light.enrich.process(sold[0]), real.enrich.process(sold[1])
            assert answers(enriched[0]) == answers(enriched[1])
            read = [produced(each[0], ENRICHED, at) for each in enriched]
            staged(light, real, read, FACT, "event_id")
            assert light.count(read[0]) == real.count(read[1])
        refused = [produced(outputs[i][1], QUARANTINE, at) for i in range(2)]
        if len(refused[0]):
            staged(light, real, refused, ITEM, "item_id")


def test_a_schema_that_cannot_be_fetched_pauses_the_same_partitions() -> None:
    light, real = Chain(real=False, seed=2), Chain(real=True, seed=2)
    known = [i.value for i in items() if i.name == "e1-a"]
    new = [i.value for i in items() if i.name == "e1-a-old-schema"]
    paused = []
    for chain in (light, real):
        partitions = chain.world.partitions
        chain.decide(raw_batch(known * 2, partitions, 0, Random(1)))
        chain.world.registry_up = False
        batch = raw_batch(known + new, partitions, 10, Random(1))
        with pytest.raises(Paused) as caught:
            chain.quality.process(batch)
        paused.append(caught.value.partitions)
    assert paused[0] == paused[1] != frozenset()


def answers(outputs: Sequence[OutputBatch]) -> list[Answer]:
    return [
        (
            o.topic,
            picked(o),
            list(o.key),
            [list(h) for h in o.headers or []],
            o.partition and list(o.partition),
        )  # type: ignore[misc]
        for o in outputs
        if len(o)
    ]


def picked(output: OutputBatch) -> list[Any]:
    """What both kinds of records say."""
    if output.topic == RAW:
        return list(output.value)
    rows = decode(output.topic, [Record(0, 0, None, value, ()) for value in output.value])
    found: list[Any] = [{name: row[name] for name in COMPARED[output.topic].split()} for row in rows]
    if output.topic == DECISIONS:
        found += [
            {name: decided[name] for name in DECIDED.split()} for row in rows for decided in row["rows"]
        ]
    return found


def raw_batch(values: list[bytes | None], partitions: int, at: int, rng: Random) -> RecordBatch:
    """At ascending offsets, most of them on their own partitions."""
    n, homes = len(values), knowledge()
    places = [
        rng.randrange(partitions) if rng.random() < 0.3 else homes[value].home[partitions - 1]
        for value in values
    ]
    headers = [
        [("ingest-ts", b"%d" % (at + i)), ("traceparent", trace_of(at + i).encode())] for i in range(n)
    ]
    return batch_of(RAW, values, np.array(places, np.int32), at, headers)


def produced(output: OutputBatch, topic: str, at: int) -> RecordBatch:
    """The records as they are read from partition 0."""
    assert output.topic == topic
    return batch_of(
        topic, output.value, np.zeros(len(output), np.int32), at, output.headers or [()] * len(output)
    )


def batch_of(topic: str, values: Any, partition: Any, at: int, headers: Any) -> RecordBatch:
    offset = np.arange(at, at + len(values), dtype=np.int64)
    return RecordBatch(topic, partition, offset, offset, [None] * len(values), values, headers)


def staged(light: Chain, real: Chain, batches: list[RecordBatch], columns: Any, key: str) -> None:
    """Both write the same rows, from the same coordinates, and move the same positions."""
    tp = TopicPartition(batches[0].topic, 0)
    writes = [
        chain.warehouse.prepare([batch], Positions({tp: Position("T", 0)}))
        for chain, batch in zip((light, real), batches, strict=True)
    ]
    assert writes[0].moves == writes[1].moves
    name = "enriched" if key == "event_id" else "quarantine"
    rows = [
        sorted(
            (row[key], int(row[f"{name}_partition"]), int(row[f"{name}_offset"]))
            for row in rows_of(write.sales or write.quarantine, columns)
        )
        for write in writes
    ]
    assert rows[0] == rows[1]
