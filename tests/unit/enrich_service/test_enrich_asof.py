"""Each sale points at the version that was true when it was made, and the enricher follows the dimensions."""

from __future__ import annotations

import datetime as dt
import time
from collections.abc import Sequence

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from enrich_service.asof import AsOf
from enrich_service.enrichment import add_keys
from enrich_service.known import KnownDimensions
from enrich_service.versions import CorruptDimension
from schemas.catalogue import load_topics
from schemas.codec import Codec
from schemas.dimensions import CUSTOMERS, record_key_expr, surrogate_key_expr
from schemas.example_files import examples
from schemas.fakes import InMemoryRegistry
from streamkit.memory import MemoryBroker, MemoryFollower, MemoryProducer
from streamkit.ports import NewTopic, OutputBatch

FIRST, BASE = dt.datetime(1900, 1, 1), dt.datetime(2010, 12, 1)
DAYS = st.integers(-2, 8).map(lambda n: BASE + dt.timedelta(days=n))
BEGINS = st.dictionaries(st.sampled_from("abc"), st.sets(DAYS, max_size=3), max_size=3)
SALES = st.lists(st.tuples(st.sampled_from([*"abcd", None]), DAYS), min_size=1, max_size=12)
KEYS = {"event_id": "e", "source_system": "s", "invoice_no": "1", "line_no": 1, "stock_code": "85123A"}


def versions(begins: dict[str, set[dt.datetime]]) -> pl.DataFrame:
    rows = [(member, at) for member, days in begins.items() for at in (FIRST, *days)]
    frame = pl.DataFrame(
        rows, schema={"customer_id": pl.String(), "effective_date": pl.Datetime("us")}, orient="row"
    )
    return frame.with_columns(surrogate_key_expr(CUSTOMERS).alias("customer_key"))


def sales(rows: Sequence[tuple[str | None, dt.datetime]]) -> pl.DataFrame:
    frame = pl.DataFrame(
        rows, schema={"customer_id": pl.String(), "invoice_ts": pl.Datetime("ms")}, orient="row"
    )
    return add_keys(frame.with_columns(**{name: pl.lit(value) for name, value in KEYS.items()}))


@settings(max_examples=60, deadline=None)
@given(BEGINS, SALES)
def test_key_is_that_of_the_latest_version_that_had_begun(
    begins: dict[str, set[dt.datetime]], rows: list[tuple[str | None, dt.datetime]]
) -> None:
    known = versions(begins)
    joined = AsOf.of(CUSTOMERS, known).add_to(sales(rows))
    key_of = {(m, at): key for m, at, key in known.rows()}
    for (member, at), key, first in zip(
        rows, joined["customer_key"], sales(rows)["customer_key"], strict=True
    ):
        begun = [day for day in (FIRST, *begins.get(member or "", ())) if day <= at]
        expected = key_of[member, max(begun)] if member in begins else first
        assert key == expected
    assert joined.drop("customer_key").equals(sales(rows).drop("customer_key"))


def test_version_begins_at_its_instant_and_not_after_it() -> None:
    known = versions({"a": {BASE}})
    before, at = sales([("a", BASE - dt.timedelta(milliseconds=1)), ("a", BASE)])["invoice_ts"]
    keys = AsOf.of(CUSTOMERS, known).add_to(sales([("a", before), ("a", at)]))["customer_key"]
    assert keys.to_list() == known.sort("effective_date")["customer_key"].to_list()


class Followed:
    """The customers' topic in memory, and the enricher's view of it."""

    def __init__(self) -> None:
        topic = load_topics()[CUSTOMERS.topic]
        registry = InMemoryRegistry()
        self.schema_id = registry.register(topic.subject, topic.schema_text)
        self.codec = Codec(topic.schema_text, registry)
        self.rows = examples(topic)
        self.broker = MemoryBroker()
        self.broker.create_topic(NewTopic(CUSTOMERS.topic, 1))
        self.failures = 0
        self.known = KnownDimensions(
            {CUSTOMERS: self.codec}, lambda: MemoryFollower(self.broker, [CUSTOMERS.topic]), self._failed
        )

    def _failed(self) -> None:
        self.failures += 1

    def publish(self, rows: pl.DataFrame, *, withdrawn: bool = False) -> None:
        keys = [key.encode() for key in rows.select(record_key_expr(CUSTOMERS)).to_series()]
        values: list[bytes | None] = [*self.codec.encode(rows, self.schema_id)]
        values = [None] * len(keys) if withdrawn else values
        MemoryProducer(self.broker).produce([OutputBatch(CUSTOMERS.topic, values, keys)], 1)

    def wait_for(self, versions: int) -> None:
        deadline = time.monotonic() + 5
        while len(self.known.current()[CUSTOMERS].table) != versions:
            assert time.monotonic() < deadline, "never followed"
            time.sleep(0.01)


def test_enricher_knows_versions_from_its_start_and_follows_changes() -> None:
    world = Followed()
    world.publish(world.rows)
    world.known.start()
    try:
        assert set(world.known.current()[CUSTOMERS].table["customer_id"]) == {"17850"}
        later = world.rows.filter(pl.col("version_number") == 2)
        world.publish(later, withdrawn=True)
        world.wait_for(0)
        world.publish(later)
        world.wait_for(2)
    finally:
        world.known.stop()


def test_record_that_is_no_version_stops_the_enricher() -> None:
    world = Followed()
    world.known.start()
    MemoryProducer(world.broker).produce(
        [OutputBatch(CUSTOMERS.topic, [b"rubbish"], [b"17850|1900-01-01"])], 1
    )
    deadline = time.monotonic() + 5
    while not world.failures and time.monotonic() < deadline:
        time.sleep(0.01)
    with pytest.raises(CorruptDimension, match="is no version"):
        world.known.current()
