"""The builder on the broker in memory: exactly once, restored from its own topics."""

from __future__ import annotations

import datetime as dt
from typing import Any

import polars as pl
import pytest

from enrich_service.dimensions.envelope import Envelopes
from enrich_service.dimensions.members import CUSTOMER, MEMBERS
from enrich_service.dimensions.pipeline import SALES, CorruptInput, DimensionsPipeline, Output
from enrich_service.dimensions.state import DimensionState, StateLost
from enrich_service.versions import applied
from schemas.catalogue import load_topics
from schemas.codec import Codec
from schemas.fakes import InMemoryRegistry
from schemas.hashing import murmur2_partition
from schemas.heartbeat import PREFIX as HEARTBEAT
from streamkit.clock import FakeClock
from streamkit.limits import Limits
from streamkit.memory import (
    MemoryBroker,
    MemoryConsumer,
    MemoryFollower,
    MemoryProducer,
    MemoryTransactionalProducer,
)
from streamkit.ports import NewTopic, OutputBatch, TransactionAborted
from streamkit.runner import Runner
from streamkit.stats import StageStats
from tests.unit.aggregates.aggregates_world import sale
from tests.unit.dimensions.debezium import encoded, envelope, event
from tests.unit.dimensions.dimension_world import COUNTRIES

GROUP, CHANGES, DIM = "tillstream.dimensions", CUSTOMER.source, CUSTOMER.dimension.topic
AT = 1_790_000_000_000_000
ANN = {"customer_id": "17850", "country": "EIRE", "tier": "GOLD", "name": "v1:cipher"}


class World:
    def __init__(self) -> None:
        self.clock = FakeClock()
        self.broker = MemoryBroker(self.clock)
        topics = load_topics()
        self.registry = InMemoryRegistry()
        self.ids = {n: self.registry.register(t.subject, t.schema_text) for n, t in topics.items()}
        self.codecs = {n: Codec(t.schema_text, self.registry) for n, t in topics.items()}
        self.schema = envelope("customers")
        self.cdc_id = self.registry.register(f"{CHANGES}-value", self.schema)
        for name in (SALES, *(m.source for m in MEMBERS), *(m.dimension.topic for m in MEMBERS)):
            self.broker.create_topic(NewTopic(name, 3))
        self.consumer: MemoryConsumer | None = None

    def change(self, *events: dict[str, Any]) -> None:
        values = encoded(self.schema, self.cdc_id, *events)
        # Debezium's key is a struct, so its partition has nothing to do with ours.
        self._produce(OutputBatch(CHANGES, values, [b"\x00struct"] * len(values)))

    def sell(self, **row: Any) -> None:
        frame = pl.DataFrame([sale(**row)], schema=self.codecs[SALES].columns)
        self._produce(OutputBatch(SALES, self.codecs[SALES].encode(frame, self.ids[SALES]), [b"536365"]))

    def _produce(self, batch: OutputBatch) -> None:
        MemoryProducer(self.broker).produce([batch], 1)

    def start(self) -> Runner:
        if self.consumer:
            self.consumer.lose_session()
        members = {m: self.codecs[m.dimension.topic] for m in MEMBERS}
        self.state = DimensionState(members, lambda t: MemoryFollower(self.broker, t), COUNTRIES, self.clock)
        outputs = {
            m: Output(m.dimension.topic, codec, self.ids[m.dimension.topic], 3)
            for m, codec in members.items()
        }
        pipeline = DimensionsPipeline(
            changes={m: Envelopes(m, self.registry) for m in MEMBERS},
            sales=self.codecs[SALES],
            state=self.state,
            outputs=outputs,
        )
        self.consumer = MemoryConsumer(self.broker, GROUP)
        runner = Runner(
            self.consumer,
            MemoryTransactionalProducer(self.broker, "tillstream.dimensions.0"),
            pipeline,
            topics=[SALES, *(m.source for m in MEMBERS)],
            stats=StageStats("dimensions", self.clock),
            clock=self.clock,
            participants=[self.state],
            limits=Limits(max_records=2, poll_timeout_s=0.0, linger_s=0.0),
        )
        runner.start()
        return runner

    def drain(self, runner: Runner) -> None:
        idle = 0
        while idle < 5:
            idle = 0 if runner.step() else idle + 1

    def published(self) -> dict[str, dict[str, Any]]:
        """What a reader of the compacted topic ends with, by record key less the special member."""
        follower = MemoryFollower(self.broker, [DIM])
        follower.open()
        batches = []
        while not follower.at_end():
            batches += follower.poll(100, 0)
        empty = pl.DataFrame(schema=self.codecs[DIM].columns)
        rows = applied(empty, batches, self.codecs[DIM], CUSTOMER.dimension).to_dicts()
        return {f"{r['customer_id']}|{r['version_number']}": r for r in rows if r["customer_id"]}


def test_sale_then_customer_then_update_leave_two_versions_of_one_member() -> None:
    world = World()
    runner = world.start()
    world.sell()
    world.drain(runner)
    assert world.published()["17850|1"]["is_inferred"]
    world.change(event("c", 5, AT, after=ANN))
    world.change(event("u", 6, AT + 9, ANN, ANN | {"tier": "SILVER"}))
    world.drain(runner)
    versions = world.published()
    assert [(v["value_tier"], v["is_current"], v["is_inferred"]) for v in versions.values()] == [
        ("GOLD", False, False),
        ("SILVER", True, False),
    ]
    at = dt.datetime(1970, 1, 1) + dt.timedelta(microseconds=AT + 9)
    assert versions["17850|2"]["effective_date"] == at


def test_a_heartbeat_names_no_member() -> None:
    world = World()
    runner = world.start()
    world.sell(event_id=f"{HEARTBEAT}1", customer_id="heart", stock_code="heart")
    world.sell()
    world.drain(runner)
    assert list(world.published()) == ["17850|1"]


def test_versions_lie_in_the_partition_of_their_natural_key() -> None:
    world = World()
    runner = world.start()
    for number in range(9):
        world.change(event("c", number, AT, after=ANN | {"customer_id": f"c{number}"}))
    world.drain(runner)
    for tp in world.broker.partitions(DIM):
        natural = [(r.key or b"").rpartition(b"|")[0] for r in world.broker.log(tp).read(0, 99)]
        assert all(murmur2_partition([key], 3)[0] == tp.partition for key in natural)


def test_process_that_starts_anew_goes_on_from_the_topic_and_repeats_nothing() -> None:
    world = World()
    runner = world.start()
    world.change(event("c", 5, AT, after=ANN))
    world.drain(runner)
    before = world.published()
    again = world.start()
    world.change(event("c", 5, AT, after=ANN), event("u", 6, AT + 9, ANN, ANN | {"tier": "SILVER"}))
    world.drain(again)
    after = world.published()
    assert after["17850|2"]["value_tier"] == "SILVER"
    assert (before["17850|1"]["expiry_date"], after["17850|1"]["is_current"]) == (None, False)
    assert world.state.current(CUSTOMER).height == 3  # with the special member


def test_aborted_batch_leaves_nothing_behind_and_is_done_again() -> None:
    world = World()
    runner = world.start()
    world.change(event("c", 5, AT, after=ANN))
    world.broker.fail_next("commit", TransactionAborted("rebalanced", retriable=True))
    runner.step()
    assert world.state.current(CUSTOMER).is_empty()
    assert world.published() == {}
    world.drain(runner)
    assert set(world.published()) == {"17850|1"}


def test_special_member_is_published_once_before_all_others() -> None:
    world = World()
    runner = world.start()
    world.sell(customer_id=None)
    world.drain(runner)
    world.sell(customer_id=None, event_id="e2")
    world.drain(runner)
    special = [r for r in world.broker.committed_records(DIM) if r.key == b"|1900-01-01"]
    assert len(special) == 1
    assert world.state.current(CUSTOMER)["customer_key"].to_list() == [-1]


def test_lost_topic_is_noticed_and_not_taken_for_a_new_start() -> None:
    world = World()
    runner = world.start()
    world.change(event("c", 5, AT, after=ANN))
    world.drain(runner)
    world.broker._topics.pop(DIM)
    world.broker.create_topic(NewTopic(DIM, 3))
    with pytest.raises(StateLost, match="was deleted"):
        world.drain(world.start())


def test_record_that_is_no_change_stops_the_builder_with_its_place() -> None:
    world = World()
    runner = world.start()
    world._produce(OutputBatch(CHANGES, [b"rubbish, and more of it"], [b"k"]))
    with pytest.raises(CorruptInput, match=r"cdc\.shop\.customers\[\d\]@0 is no change"):
        world.drain(runner)
