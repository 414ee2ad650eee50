"""The events that the platform made gold of: the reference to which every store's arrivals are joined."""

from __future__ import annotations

from typing import Any, Final

import confluent_kafka as ck
import polars as pl

from bench.chain.load import LINES_OF_AN_INVOICE, SOURCE, Plan
from bench.chain.watch import ENRICHED
from schemas.catalogue import load_topics
from schemas.codec import Codec
from schemas.registry import RegistryClient

_READ: Final = 20_000


def enriched_events(kafka: str, registry: str) -> pl.DataFrame:
    """One row for each event of the load in `sales.enriched.v1`.

    Columns: `event_id`, `ingest_ms` (acceptance, ms since 1970), `number` (its place in the load),
    `partition` and `offset` there, `raw_partition` and `raw_offset` in the raw topic.
    """
    topic = load_topics()[ENRICHED]
    codec = Codec(topic.schema_text, RegistryClient(registry))
    consumer = ck.Consumer(
        {
            "bootstrap.servers": kafka,
            "group.id": "tillstream.bench.events",
            "enable.auto.commit": False,
            "isolation.level": "read_committed",
            "enable.partition.eof": True,
            "log_level": 5,
        }
    )
    consumer.assign([ck.TopicPartition(ENRICHED, p, ck.OFFSET_BEGINNING) for p in range(topic.partitions)])
    parts, ended = [_rows(codec, [])], set[int]()
    try:
        while len(ended) < topic.partitions:
            messages = consumer.consume(_READ, 0.2)
            ended |= {m.partition() for m in messages if m.error() is not None}
            parts.append(_rows(codec, [m for m in messages if m.error() is None]))
    finally:
        consumer.close()
    return pl.concat(parts)


def _rows(codec: Codec, messages: list[Any]) -> pl.DataFrame:
    frame = codec.decode([m.value() for m in messages]).frame.with_columns(
        pl.Series("partition", [m.partition() for m in messages], dtype=pl.Int32),
        pl.Series("offset", [m.offset() for m in messages], dtype=pl.Int64),
    )
    number = pl.col("invoice_no").str.slice(1).cast(pl.Int64) * LINES_OF_AN_INVOICE + pl.col("line_no") - 1
    return frame.filter(pl.col("source_system") == SOURCE).select(
        "event_id",
        pl.col("ingest_ts").cast(pl.Datetime("ms")).cast(pl.Int64).cast(pl.Float64).alias("ingest_ms"),
        number.alias("number"),
        *("partition", "offset", "raw_partition", "raw_offset"),
    )


def intended_ms(events: pl.DataFrame, plan: Plan) -> pl.Series:
    """When each event was meant to be sent."""
    tick = pl.col("number") // plan.per_tick
    return events.select(plan.begin_ms + tick.cast(pl.Float64) * plan.tick_ms).to_series()
