"""The aggregates process on the broker in memory, sales to feed it, and a plain recount to hold it to."""

from __future__ import annotations

import datetime as dt
from collections import defaultdict
from collections.abc import Iterator, Sequence
from typing import Any

import polars as pl

from gold_writer.aggregates.changelog import Chunk
from gold_writer.aggregates.pipeline import AggregatesPipeline
from gold_writer.aggregates.state import AggregateState
from schemas.aggregates import amount
from schemas.catalogue import load_topics
from schemas.codec import Codec
from schemas.fakes import InMemoryRegistry
from streamkit.clock import FakeClock
from streamkit.limits import Limits
from streamkit.memory import (
    MemoryAdmin,
    MemoryBroker,
    MemoryConsumer,
    MemoryProducer,
    MemoryTransactionalProducer,
)
from streamkit.ports import Headers, NewTopic, OutputBatch, TopicPartition
from streamkit.runner import Runner
from streamkit.stats import StageStats

ENRICHED, AGGREGATES, GROUP = "sales.enriched.v1", "sales.aggregates.v1", "tillstream.aggregates"
AT = dt.datetime(2010, 12, 1, 8, 26)
NAMES = ("lines", "units", "revenue", "gross", "returns")
Totals = dict[tuple[str, dt.datetime, str, int], tuple[int, ...]]
"""(grain, window start, dimension, shard) -> (lines, units, revenue, gross, returns)."""


class MemoryChangelog:
    """Chunks of three records, so that restoring meets the same key in several."""

    def __init__(self, broker: MemoryBroker, codec: Codec) -> None:
        self._broker = broker
        self._codec = codec

    def read(self, partition: int, offset: int) -> Iterator[Chunk]:
        log = self._broker.log(TopicPartition(AGGREGATES, partition))
        while records := log.read(offset, 3):
            offset = records[-1].offset + 1
            keys = [record.key for record in records if record.key is not None]
            yield Chunk(keys, self._codec.decode([record.value for record in records]).frame, offset)


class World:
    def __init__(self, partitions: int = 2, max_records: int = 7) -> None:
        self.partitions = partitions
        self.clock = FakeClock()
        self.broker = MemoryBroker(self.clock)
        MemoryAdmin(self.broker).ensure_topics(
            [NewTopic(ENRICHED, partitions), NewTopic(AGGREGATES, partitions)]
        )
        self.registry = InMemoryRegistry()
        topics = load_topics()
        self.schema_ids = {
            name: self.registry.register(topics[name].subject, topics[name].schema_text)
            for name in (ENRICHED, AGGREGATES)
        }
        self.codecs = {name: Codec(topics[name].schema_text, self.registry) for name in self.schema_ids}
        self.limits = Limits(max_records=max_records, poll_timeout_s=0.0, linger_s=0.0, max_attempts=4)
        self.sales: list[tuple[int, dict[str, Any]]] = []
        self.stats = StageStats("aggregates", self.clock)
        self.changelog = MemoryChangelog(self.broker, self.codecs[AGGREGATES])
        self._consumers: list[MemoryConsumer] = []

    def send(
        self, rows: Sequence[dict[str, Any]], partition: int = 0, headers: Sequence[Headers] | None = None
    ) -> None:
        full = [sale(**row) for row in rows]
        codec = self.codecs[ENRICHED]
        frame = pl.DataFrame(full, schema=dict(codec.columns), orient="row")
        values = codec.encode(frame, self.schema_ids[ENRICHED])
        keys = [row["invoice_no"].encode() for row in full]
        batch = OutputBatch(ENRICHED, values, keys, headers, partition=[partition] * len(full))
        MemoryProducer(self.broker).produce([batch], 1)
        self.sales += [(partition, row) for row in full]

    def state(self) -> AggregateState:
        return AggregateState(self.changelog, self.clock)

    def pipeline(self, state: AggregateState) -> AggregatesPipeline:
        return AggregatesPipeline(
            reader=self.codecs[ENRICHED],
            writer=self.codecs[AGGREGATES],
            schema_id=self.schema_ids[AGGREGATES],
            state=state,
            clock=self.clock,
            topic_out=AGGREGATES,
        )

    def runner(self, slot: str = "slot") -> Runner:
        """A process of its own, with nothing remembered."""
        state = self.state()
        consumer = MemoryConsumer(self.broker, GROUP)
        self._consumers.append(consumer)
        return Runner(
            consumer,
            MemoryTransactionalProducer(self.broker, slot),
            self.pipeline(state),
            topics=[ENRICHED],
            stats=self.stats,
            clock=self.clock,
            participants=[state],
            limits=self.limits,
        )

    def kill(self) -> None:
        """Whatever runs is gone at once, and the group notices."""
        for consumer in self._consumers:
            consumer.lose_session()
        self._consumers.clear()

    def drain(self, *runners: Runner) -> None:
        for _ in range(500):
            if self.consumed() == len(self.sales):
                return
            for runner in runners:
                runner.step()
            self.clock.advance(0.1)
        raise AssertionError("never drained")

    def run(self) -> None:
        runner = self.runner()
        runner.start()
        self.drain(runner)
        runner.close()

    def consumed(self) -> int:
        """The input has no markers, so committed offsets count its records."""
        return sum(self.broker.committed_offsets(GROUP).values())

    def published(self) -> Totals:
        """What a read-committed reader of the compacted topic ends with."""
        return latest_totals([c for shard in range(self.partitions) for c in self.changelog.read(shard, 0)])


def latest_totals(chunks: Sequence[Chunk]) -> Totals:
    """The last value of each key."""
    if not chunks:
        return {}
    records = pl.concat([chunk.rows.with_columns(key=pl.Series(chunk.keys)) for chunk in chunks])
    rows = records.unique("key", keep="last").to_dicts()
    # The key is the identity: no two keys mean one window.
    assert len({_window(row) for row in rows}) == len(rows)
    return {_window(row): _values(row) for row in rows}


def recount(sales: Sequence[tuple[int, dict[str, Any]]]) -> Totals:
    """Plain Python over the sales as they were sent; of an event's revisions the highest counts."""
    newest: dict[tuple[int, str], dict[str, Any]] = {}
    for shard, row in sales:
        known = newest.get((shard, row["event_id"]))
        if known is None or row["revision"] > known["revision"]:
            newest[shard, row["event_id"]] = row
    totals: defaultdict[tuple[str, dt.datetime, str, int], list[int]] = defaultdict(lambda: [0] * 5)
    for (shard, _), row in newest.items():
        at, gbp = row["invoice_ts"], row["amount_gbp_micros"] or 0
        gross, returns = (0, gbp) if row["is_return"] else (gbp, 0)
        for grain, start, dimension in (
            ("minute_country", at.replace(second=0, microsecond=0), row["country"] or ""),
            ("day_product", at.replace(hour=0, minute=0, second=0, microsecond=0), row["stock_code"]),
            ("total", dt.datetime(1970, 1, 1), ""),
        ):
            window = totals[grain, start, dimension, shard]
            for place, value in enumerate((1, row["quantity"], gbp, gross, returns)):
                window[place] += value
    return {window: tuple(values) for window, values in totals.items()}


def sale(**row: Any) -> dict[str, Any]:
    return {
        "event_id": "e1", "source_system": "shop", "invoice_no": "536365", "line_no": 1,
        "stock_code": "85123A", "description": "HEART", "quantity": 6, "unit_price_micros": 2_550_000,
        "currency": "GBP", "customer_id": "17850", "country": "EIRE", "invoice_ts": AT, "attributes": {},
        "content_hash": "h", "quality_score": 1.0, "warnings": [], "load_id": "load-1", "ingest_ts": AT,
        "raw_topic_id": "T", "raw_partition": 0, "raw_offset": 0, "validated_ts": AT,
        "validated_partition": 0, "validated_offset": 0, "country_code": "IE", "region": "Europe",
        "total_amount_micros": 15_300_000, "amount_gbp_micros": 15_300_000, "is_return": False,
        "is_product": True, "revision": 0, "recorded_at": AT, "sale_key": 1, "customer_key": 1,
        "product_key": 1, "invoice_key": 1, "date_key": 20101201,
    } | row  # fmt: skip


def _window(row: dict[str, Any]) -> tuple[str, dt.datetime, str, int]:
    return row["grain"], row["window_start"], row["dimension"], row["shard"]


def _values(row: dict[str, Any]) -> tuple[int, ...]:
    return (
        row["lines"],
        row["units"],
        amount(row["revenue_micros"], row["revenue_carry"]),
        amount(row["gross_revenue_micros"], row["gross_revenue_carry"]),
        amount(row["returns_micros"], row["returns_carry"]),
    )
