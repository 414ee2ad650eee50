"""Records of the warehouse's two input topics, for its tests."""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from typing import Any

import numpy as np
import polars as pl

from gold_writer.warehouse.pipeline import ENRICHED, QUARANTINED, WarehousePipeline
from schemas.catalogue import load_topics
from schemas.codec import Codec
from schemas.fakes import InMemoryRegistry
from schemas.identity import key64
from streamkit.ports import RecordBatch

AT = dt.datetime(2010, 12, 1, 8, 26)


class Records:
    """Encodes rows with the real schemas, and makes pipelines that can decode them."""

    def __init__(self) -> None:
        topics = load_topics()
        self.registry = InMemoryRegistry()
        self._ids = {
            name: self.registry.register(topics[name].subject, topics[name].schema_text)
            for name in (ENRICHED, QUARANTINED)
        }
        self._codecs = {name: Codec(topics[name].schema_text, self.registry) for name in self._ids}

    def pipeline(self) -> WarehousePipeline:
        topics = load_topics()
        return WarehousePipeline(
            sales=Codec(topics[ENRICHED].schema_text, self.registry),
            quarantine=Codec(topics[QUARANTINED].schema_text, self.registry),
        )

    def sales(self, *rows: dict[str, Any], offset: int = 0, partition: int = 0) -> RecordBatch:
        """Enriched sales at consecutive offsets."""
        return self._batch(ENRICHED, [sale(**row) for row in rows], offset, partition)

    def quarantine(self, *rows: dict[str, Any], offset: int = 0, partition: int = 0) -> RecordBatch:
        return self._batch(QUARANTINED, [ITEM | row for row in rows], offset, partition)

    def _batch(self, topic: str, rows: Sequence[dict[str, Any]], offset: int, partition: int) -> RecordBatch:
        codec = self._codecs[topic]
        frame = pl.DataFrame(rows, schema=dict(codec.columns), orient="row")
        return batch_of(topic, codec.encode(frame, self._ids[topic]), offset, partition)


def batch_of(topic: str, values: Sequence[bytes | None], offset: int = 0, partition: int = 0) -> RecordBatch:
    n = len(values)
    return RecordBatch(
        topic=topic,
        partition=np.full(n, partition, dtype=np.int32),
        offset=np.arange(offset, offset + n, dtype=np.int64),
        timestamp_ms=np.zeros(n, dtype=np.int64),
        key=[b"k"] * n,
        value=list(values),
        headers=[()] * n,
    )


def sale(**row: Any) -> dict[str, Any]:
    """An enriched sale; keys and date follow from what is given."""
    full: dict[str, Any] = {
        "event_id": "e1", "source_system": "shop", "invoice_no": "536365", "line_no": 1,
        "stock_code": "85123A", "description": "HEART", "quantity": 6, "unit_price_micros": 2_550_000,
        "currency": "GBP", "customer_id": "17850", "country": "EIRE", "invoice_ts": AT, "attributes": {},
        "content_hash": "h", "quality_score": 1.0, "warnings": [], "load_id": "load-1", "ingest_ts": AT,
        "raw_topic_id": "T", "raw_partition": 0, "raw_offset": 0, "validated_ts": AT,
        "validated_partition": 0, "validated_offset": 0, "country_code": "IE", "region": "Europe",
        "total_amount_micros": 15_300_000, "amount_gbp_micros": 15_300_000, "is_return": False,
        "is_product": True, "revision": 0, "recorded_at": AT,
    } | row  # fmt: skip
    customer = full["customer_id"]
    keys = {
        "sale_key": key64("sale", full["event_id"]),
        "customer_key": -1 if customer is None else key64("customer", customer, "1900-01-01"),
        "product_key": key64("product", full["stock_code"], "1900-01-01"),
        "invoice_key": key64("invoice", full["source_system"], full["invoice_no"]),
        "date_key": int(f"{full['invoice_ts']:%Y%m%d}"),
    }
    return keys | full


ITEM: dict[str, Any] = {
    "item_id": "i1", "state": "OPEN", "stage": "quality", "event_id": "e1", "reason": "NEGATIVE_QUANTITY",
    "rules": ["NEGATIVE_QUANTITY"], "detail": None, "source_system": "shop", "load_id": "load-1",
    "ordinal": None, "payload": b"\x00\x01bytes", "payload_format": "avro", "schema_id": 1, "topic_id": "T",
    "partition": 0, "offset": 5, "content_hash": "h", "amount_micros": -5_000_000, "currency": "GBP",
    "traceparent": None, "ingest_ts": AT, "quarantined_ts": AT, "attempts": 0,
}  # fmt: skip
