"""From typed rows to Kafka records: Avro values, keys and headers."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final, Protocol

import polars as pl

from ingest_service.model import RAW, UNDECODABLE
from streamkit.ports import Headers, OutputBatch

RAW_TOPIC: Final = "sales.raw.v1"
QUARANTINE_TOPIC: Final = "sales.quarantine.v1"
SALE_TYPE: Final = b"tillstream.sale.v1"
ITEM_TYPE: Final = b"tillstream.quarantined-item.v1"


@dataclass(frozen=True, slots=True)
class Origin:
    """What all items of one request or file share."""

    load_id: str
    traceparent: str
    format: str
    """Of the original bytes: json or csv."""
    ordinals_identify: bool
    """Whether an item's ordinal is part of what it is: so in a file, not in a request."""


class Encoder(Protocol):
    """`schemas.codec.Codec` with a schema id."""

    def encode(self, frame: pl.DataFrame) -> list[bytes]:
        """One framed value per row."""
        ...


def sales(frame: pl.DataFrame, origin: Origin, encoder: Encoder, now_ms: int) -> OutputBatch:
    """`frame`: columns of `model.SALES`, every row with its `event_id`. Keyed by it."""
    ids = _bytes(frame["event_id"])
    shared = _shared_headers(origin, SALE_TYPE, frame["source_system"], now_ms)
    return OutputBatch(
        topic=RAW_TOPIC,
        value=encoder.encode(frame.select(RAW.names())),
        key=ids,
        headers=_headers(ids, shared, frame["source_system"]),
    )


def quarantined(
    frame: pl.DataFrame, origin: Origin, encoder: Encoder, now_ms: int, state: str = "OPEN"
) -> OutputBatch:
    """`frame`: columns of `model.REFUSED`, `item_id` and `attempts`. Keyed by the item id; no coordinates,
    for no record was made."""
    ids = _bytes(frame["item_id"])
    now = pl.lit(now_ms).cast(pl.Datetime("ms"))
    values = frame.with_columns(
        state=pl.lit(state),
        stage=pl.lit("ingest"),
        reason=pl.lit(UNDECODABLE),
        rules=pl.lit([UNDECODABLE], dtype=pl.List(pl.String)),
        load_id=pl.lit(origin.load_id),
        payload_format=pl.lit(origin.format),
        traceparent=pl.lit(origin.traceparent),
        ingest_ts=now,
        quarantined_ts=now,
    )
    shared = _shared_headers(origin, ITEM_TYPE, frame["source_system"], now_ms)
    return OutputBatch(
        topic=QUARANTINE_TOPIC,
        value=encoder.encode(values),
        key=ids,
        headers=_headers(ids, shared, frame["source_system"]),
    )


def _shared_headers(
    origin: Origin, kind: bytes, sources: pl.Series, now_ms: int
) -> dict[str | None, list[tuple[str, bytes]]]:
    """Per source, the headers that its records share: CloudEvents in binary mode, trace, time and load."""
    time = datetime.fromtimestamp(now_ms / 1000, UTC).isoformat(timespec="milliseconds")
    common = [
        ("ce_type", kind),
        ("ce_time", time.replace("+00:00", "Z").encode()),
        ("traceparent", origin.traceparent.encode()),
        ("ingest-ts", b"%d" % now_ms),
        ("load-id", origin.load_id.encode()),
    ]
    distinct: Iterable[str | None] = sources.unique().to_list()
    return {source: [("ce_source", (source or "unknown").encode()), *common] for source in distinct}


def _headers(
    ids: list[bytes], shared: dict[str | None, list[tuple[str, bytes]]], sources: pl.Series
) -> list[Headers]:
    if len(shared) == 1:
        (only,) = shared.values()
        return [[("ce_id", each), *only] for each in ids]
    return [[("ce_id", each), *shared[s]] for each, s in zip(ids, sources, strict=True)]


def _bytes(texts: pl.Series) -> list[bytes]:
    found: list[bytes] = texts.cast(pl.Binary).to_list()
    return found
