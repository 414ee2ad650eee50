"""The way of an event: parse -> identify -> encode -> produce -> answer.

    bytes --cut--> items --parse--> Parsed --identify--> Identified --encode--> records --produce--> Receipts

An item leaves `parse` as a sale or as a refusal, never by an exception. The answer comes after the broker has
acknowledged every record of the request, refusals included; where it did not, the whole request may be
sent again: ids are derived from what an item says, so what did arrive becomes a duplicate.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import polars as pl

from ingest_service import json_body, json_sales, records, replays
from ingest_service.careful import NotJson
from ingest_service.metrics import Metrics
from ingest_service.model import UNDECODABLE, Defaults, Parsed, refused_frame, sales_frame
from ingest_service.records import Encoder, Origin
from ingest_service.replays import Replays
from schemas import heartbeat, identity
from streamkit.clock import Clock
from streamkit.ports import OutputBatch, Producer
from streamkit.stats import StageStats

# Bounds the memory of encoded records; the broker is the slower side, so larger parts gain nothing.
PART_ROWS: Final = 20_000


class NotReady(Exception):  # noqa: N818 - an answer, not a fault
    """Nothing can be encoded yet."""


class ItemTooLarge(Exception):  # noqa: N818 - an answer, not a fault
    def __init__(self, index: int, size: int) -> None:
        super().__init__(f"item {index} has {size} bytes")
        self.index = index


@dataclass(frozen=True, slots=True)
class Identified:
    """`sales` as in `Parsed` with `event_id` in every row; `refused` with `item_id`."""

    sales: pl.DataFrame
    refused: pl.DataFrame

    def __len__(self) -> int:
        return self.sales.height + self.refused.height


@dataclass(frozen=True, slots=True)
class Encoders:
    sales: Encoder
    quarantine: Encoder


@dataclass(frozen=True, slots=True)
class Limits:
    items: int
    """Of one request."""
    item_bytes: int


class Pipeline:
    """Thread-safe, if the producer is: it holds no state of its own."""

    def __init__(
        self,
        *,
        encoders: Callable[[], Encoders],
        producer: Producer,
        clock: Clock,
        stats: StageStats,
        metrics: Metrics,
        limits: Limits,
        produce_timeout_s: float,
    ) -> None:
        """`encoders` raises `NotReady` until the schema ids are known."""
        self._encoders = encoders
        self._producer = producer
        self._clock = clock
        self._stats = stats
        self._metrics = metrics
        self._limits = limits
        self._timeout_s = produce_timeout_s

    def accept_json(self, body: bytes, defaults: Defaults, origin: Origin, *, lines: bool) -> Identified:
        """`lines`: the body is NDJSON, else one document. Returns what was acknowledged.

        Raises `NotJson`, `TooManyItems` or `ItemTooLarge` before anything is produced; `BrokerError`.
        """
        with self._step("parse"):
            items = self._cut(body, lines)
            parsed = _parse(body, items, defaults, lines)
        self._metrics.bytes.labels("json").inc(len(body))
        return self.accept(parsed, origin)

    def accept_heartbeat(self, origin: Origin) -> Identified:
        """A heartbeat instead of a sale, by the same way from here on. Raises `BrokerError`."""
        began_ms = self._clock.now_ms()
        row = heartbeat_row(began_ms)
        identified = self.accept(Parsed(sales_frame([row]), refused_frame([])), origin)
        self._stats.observe_heartbeats(np.array([began_ms]))
        return identified

    def accept_replays(self, body: bytes, origin: Origin) -> tuple[Identified, Replays]:
        """NDJSON of mended items (`replays.py`). What cannot be read is said of its item, which stays open.

        Raises `BadReplay`, `TooManyItems` or `ItemTooLarge` before anything is produced; `BrokerError`.
        """
        with self._step("parse"):
            mended = replays.read(self._cut(body, lines=True))
            parsed = json_sales.parse(mended.items, Defaults(), whole_body=False)
        return self.accept(parsed, origin, mended), mended

    def accept(self, parsed: Parsed, origin: Origin, mended: Replays | None = None) -> Identified:
        """From parsed rows to acknowledged records. Raises `BrokerError`."""
        with self._step("identify"):
            identified = identify(parsed, origin)
        for part in _parts(identified):
            now_ms = self._clock.now_ms()
            with self._step("encode"):
                batches = encode(part, origin, self._encoders(), now_ms, mended)
            with self._step("produce"):
                self._producer.produce(batches, self._timeout_s)
            self._count(part, origin, now_ms)
        return identified

    def _cut(self, body: bytes, lines: bool) -> pl.Series:
        items = (json_body.lines if lines else json_body.document)(body, self._limits.items)
        sizes = items.bin.size()
        if len(items) and int(sizes.max() or 0) > self._limits.item_bytes:  # type: ignore[arg-type]
            index = sizes.arg_max() or 0
            raise ItemTooLarge(index, int(sizes[index]))
        return items

    def _count(self, part: Identified, origin: Origin, now_ms: int) -> None:
        self._metrics.items.labels(origin.format, "accepted").inc(part.sales.height)
        self._metrics.items.labels(origin.format, "quarantined").inc(part.refused.height)
        self._stats.add_in(len(part))
        self._stats.add_out(len(part))
        self._stats.observe_latency(np.full(len(part), now_ms, dtype=np.int64))

    @contextmanager
    def _step(self, name: str) -> Iterator[None]:
        start = time.perf_counter()
        yield
        self._metrics.step.labels(name).observe(time.perf_counter() - start)


def heartbeat_row(now_ms: int) -> dict[str, Any]:
    """A row of SALES that quality accepts; it has no customer, so that no dimension gets one from it."""
    event_id = heartbeat.event_id(now_ms)
    return {
        "ordinal": 1,
        "event_id": event_id,
        "source_system": heartbeat.SOURCE,
        "invoice_no": event_id,
        "line_no": 1,
        "stock_code": "HEARTBEAT",
        "description": "Heartbeat of the platform; no sale",
        "quantity": 1,
        "unit_price_micros": 1_000_000,
        "currency": "GBP",
        "customer_id": None,
        "country": "United Kingdom",
        "invoice_ts": now_ms,
        "attributes": {},
    }


def _parse(body: bytes, items: pl.Series, defaults: Defaults, lines: bool) -> Parsed:
    try:
        return json_sales.parse(items, defaults, whole_body=not lines)
    except json_sales.ItemNotJson as reason:
        start = json_body.start_of(body, items, reason.index)
        which = f"item {reason.index}: " if len(items) > 1 else ""
        raise NotJson(f"{which}{reason}", start + reason.position) from reason


def identify(parsed: Parsed, origin: Origin) -> Identified:
    """Ids from what an item says after trimming, so that they are the same through every door."""
    trimmed = identity.normalise(parsed.sales.select("source_system", "invoice_no", "line_no"))
    derived = trimmed.select(identity.event_id_expr().alias("event_id")).to_series()
    given = parsed.sales["event_id"]
    sales = parsed.sales.with_columns(given.fill_null(derived) if given.null_count() else given)
    items = [
        identity.item_id(source or "", ordinal if origin.ordinals_identify else None, payload)
        for source, ordinal, payload in parsed.refused.select(
            "source_system", "ordinal", "payload"
        ).iter_rows()
    ]
    refused = parsed.refused.with_columns(
        pl.Series("item_id", items, dtype=pl.String), attempts=pl.lit(0, dtype=pl.Int32)
    )
    return Identified(sales, refused)


def encode(
    part: Identified, origin: Origin, encoders: Encoders, now_ms: int, mended: Replays | None = None
) -> list[OutputBatch]:
    """`now_ms` becomes the time of acceptance, from which every latency is counted."""
    batches = []
    if mended is not None:
        if part.sales.height:
            batches.append(replays.sales(part.sales, origin, encoders.sales, now_ms, mended))
        if part.refused.height:
            batches.append(replays.failed(part.refused, origin, encoders.quarantine, now_ms, mended))
        return batches
    if part.sales.height:
        batches.append(records.sales(part.sales, origin, encoders.sales, now_ms))
    if part.refused.height:
        batches.append(records.quarantined(part.refused, origin, encoders.quarantine, now_ms))
    return batches


def outcomes(identified: Identified) -> pl.DataFrame:
    """`index` (from 0), `outcome`, `event_id`, `reason`, `detail`: one row per item in order."""
    sales = identified.sales.select(
        index=pl.col("ordinal") - 1,
        outcome=pl.lit("accepted"),
        event_id=pl.col("event_id"),
        reason=pl.lit(None, dtype=pl.String),
        detail=pl.lit(None, dtype=pl.String),
    )
    refused = identified.refused.select(
        index=pl.col("ordinal") - 1,
        outcome=pl.lit("quarantined"),
        event_id=pl.col("event_id"),
        reason=pl.lit(UNDECODABLE),
        detail=pl.col("detail"),
    )
    return pl.concat([sales, refused]).sort("index")


def _parts(whole: Identified) -> Iterator[Identified]:
    rows = max(whole.sales.height, whole.refused.height)
    for start in range(0, rows, PART_ROWS):
        yield Identified(whole.sales.slice(start, PART_ROWS), whole.refused.slice(start, PART_ROWS))
