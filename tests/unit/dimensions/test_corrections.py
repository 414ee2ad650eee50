"""Sales loaded before, during and after changes of their customer end at the version that was true."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from typing import Any

import polars as pl
import pytest
from prometheus_client import CollectorRegistry

from enrich_service.asof import AsOf, nothing_known
from enrich_service.corrections import run, stale
from enrich_service.corrections.run import Correction
from enrich_service.corrections.schedule import CorrectionMetrics, Schedule
from enrich_service.enrichment import add_keys
from schemas.aggregates import REPLACES
from schemas.catalogue import load_topics
from schemas.codec import Codec
from schemas.dimensions import CUSTOMERS, PRODUCTS, Dimension
from schemas.fakes import InMemoryRegistry
from streamkit import crashpoints
from streamkit.clock import FakeClock
from streamkit.memory import MemoryBroker, MemoryFollower, MemoryProducer, MemoryTransactionalProducer
from streamkit.ports import NewTopic, OutputBatch, TransactionAborted
from tests.unit.aggregates.aggregates_world import sale
from tests.unit.dimensions.dimension_model import Change
from tests.unit.dimensions.dimension_world import Builder

SALES = "sales.enriched.v1"
DAYS = [dt.datetime(2010, 12, day, 12) for day in (1, 2, 3)]
STEPS: list[list[Change]] = [
    [Change("17850", dt.datetime(2010, 11, 1), 1, ("RETAIL", "EIRE"))],
    [Change("17850", dt.datetime(2010, 12, 2), 2, ("GOLD", "EIRE"))],
    [Change("17850", dt.datetime(2010, 12, 3), 3, ("SILVER", "EIRE"))],
    # A correction of the second that makes it needless: it is withdrawn.
    [Change("17850", dt.datetime(2010, 12, 2), 4, ("RETAIL", "EIRE"))],
]


class Killed(BaseException):
    """What a killed process leaves: nothing of it runs on."""


class World:
    def __init__(self) -> None:
        topic, registry = load_topics()[SALES], InMemoryRegistry()
        self.schema_id = registry.register(topic.subject, topic.schema_text)
        self.codec = Codec(topic.schema_text, registry)
        self.clock = FakeClock()
        self.broker = MemoryBroker(self.clock)
        self.broker.create_topic(NewTopic(SALES, 2))
        self.builder = Builder()

    def versions(self) -> Mapping[Dimension, AsOf]:
        return {**nothing_known(), CUSTOMERS: AsOf.of(CUSTOMERS, self.builder.versions)}

    def enrich(self, *rows: dict[str, Any]) -> None:
        """As the enricher does it with what is known now."""
        frame = add_keys(pl.DataFrame([sale(**row) for row in rows], schema=self.codec.columns))
        frame = self.versions()[CUSTOMERS].add_to(frame).select(self.codec.columns.names())
        values = self.codec.encode(frame, self.schema_id)
        headers = [[("ingest-ts", b"5"), ("traceparent", b"t")]] * len(rows)
        keys = [row["invoice_no"].encode() for row in frame.to_dicts()]
        MemoryProducer(self.broker).produce([OutputBatch(SALES, values, keys, headers)], 1)

    def correction(self) -> Correction:
        return Correction(
            follower=lambda: MemoryFollower(self.broker, [SALES]),
            producer=MemoryTransactionalProducer(self.broker, "corrections"),
            codec=self.codec,
            schema_id=self.schema_id,
            versions=self.versions,
            clock=self.clock,
            topic=SALES,
        )

    def records(self) -> list[tuple[dict[str, Any], dict[str, bytes | None]]]:
        records = self.broker.committed_records(SALES)
        rows = self.codec.decode([record.value for record in records]).frame.to_dicts()
        return [(row, dict(record.headers)) for row, record in zip(rows, records, strict=True)]

    def current(self) -> dict[str, dict[str, Any]]:
        newest: dict[str, dict[str, Any]] = {}
        for row, _ in self.records():
            known = newest.get(row["event_id"])
            if known is None or row["revision"] > known["revision"]:
                newest[row["event_id"]] = row
        return newest

    def true_key(self, at: dt.datetime) -> int:
        """By a plain look through the versions."""
        rows = self.builder.versions.to_dicts()
        begun = [row for row in rows if row["customer_id"] == "17850" and row["effective_date"] <= at]
        return int(max(begun, key=lambda row: row["effective_date"])["customer_key"])


def load(world: World) -> None:
    """A sale of each day before the first change is known, and after each."""
    for number in range(len(STEPS) + 1):
        rows = [
            {"event_id": f"{number}-{day:%d}", "invoice_no": f"{number}{day:%d}", "invoice_ts": day}
            for day in DAYS
        ]
        world.enrich(*rows)
        if number < len(STEPS):
            world.builder.feed(STEPS[number])


def wrong(world: World) -> set[str]:
    rows = world.current().items()
    return {e for e, row in rows if row["customer_key"] != world.true_key(row["invoice_ts"])}


def test_every_sale_ends_at_the_version_that_was_true_when_it_was_made() -> None:
    world = World()
    load(world)
    assert wrong(world) == {"0-03", "1-03", "2-02", "2-03", "3-02"}
    assert world.correction().run() == 5
    assert wrong(world) == set()
    assert world.correction().run() == 0


def test_check_of_this_test_sees_sales_that_are_not_corrected(monkeypatch: pytest.MonkeyPatch) -> None:
    world = World()
    load(world)
    monkeypatch.setattr(run, "latest_stale", lambda kept: stale.latest_stale(kept).head(4))
    world.correction().run()
    assert len(wrong(world)) == 1


def test_only_what_differs_is_written_and_says_what_it_replaces() -> None:
    world = World()
    load(world)
    before = {row["event_id"]: row for row, _ in world.records()}
    world.correction().run()
    later = [(row, headers) for row, headers in world.records() if row["revision"] > 0]
    assert {row["event_id"] for row, _ in later} == {"0-03", "1-03", "2-02", "2-03", "3-02"}
    for row, headers in later:
        assert headers == {"traceparent": b"t", REPLACES: b"0:15300000"}
        changed = {name for name, value in row.items() if before[row["event_id"]][name] != value}
        assert changed == {"customer_key", "revision", "recorded_at"}


def test_sale_that_moves_twice_gets_one_revision_a_time() -> None:
    world = World()
    world.enrich({"invoice_ts": DAYS[2], "event_id": "e"})
    for step, revision in zip(STEPS[:3], (0, 1, 2), strict=True):
        world.builder.feed(step)
        world.correction().run()
        assert world.current()["e"]["revision"] == revision
    assert [row["revision"] for row, _ in world.records()] == [0, 1, 2]


def test_aborted_correction_is_found_again() -> None:
    world = World()
    load(world)
    world.broker.fail_next("commit", TransactionAborted("no", retriable=True))
    with pytest.raises(TransactionAborted):
        world.correction().run()
    assert len(wrong(world)) == 5
    assert world.correction().run() == 5
    assert wrong(world) == set()


@pytest.mark.parametrize("point", ["correction-after-produce", "correction-after-commit"])
def test_correction_killed_at_any_step_leaves_each_sale_corrected_once(point: str) -> None:
    world = World()
    load(world)

    def die(passed: str) -> None:
        if passed == point:
            raise Killed

    crashpoints.arm(die)
    try:
        with pytest.raises(Killed):
            world.correction().run()
    finally:
        crashpoints.disarm()
    world.correction().run()
    assert wrong(world) == set()
    revisions = [(row["event_id"], row["revision"]) for row, _ in world.records()]
    assert len(revisions) == len(set(revisions))
    assert {revision for _, revision in revisions} == {0, 1}


def test_heartbeats_are_no_sales() -> None:
    world = World()
    for step in STEPS[:2]:
        world.builder.feed(step)
    frame = pl.DataFrame([sale(event_id="tillstream.heartbeat/1")], schema=world.codec.columns)
    assert stale.judged(frame, world.versions()).is_empty()


def test_correction_waits_for_a_change_to_settle_and_rests_after_it() -> None:
    world, changes = World(), 0
    schedule = Schedule(
        world.correction(),
        lambda: changes,
        world.clock,
        CorrectionMetrics(CollectorRegistry()),
        every_s=60,
        settle_s=10,
    )
    assert schedule.look() is None
    world.clock.advance(11)
    assert schedule.look() == 0  # the first: what happened before this process is unknown
    changes = 1
    world.clock.advance(30)
    assert schedule.look() is None
    world.clock.advance(31)
    assert schedule.look() == 0
    world.clock.advance(600)
    assert schedule.look() is None


def test_products_are_looked_at_too() -> None:
    world = World()
    frame = add_keys(pl.DataFrame([sale()], schema=world.codec.columns)).with_columns(product_key=pl.lit(7))
    assert stale.judged(frame, nothing_known())[stale.STALE].to_list() == [True]
    assert PRODUCTS in nothing_known()
