"""Where one event is: its way through the platform, put together from facts, quarantine and ledger."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from typing import Any

import strawberry

from query_api.errors import ApiError
from query_api.postgres import Row, Store
from query_api.sales import COLUMNS, sale
from query_api.types import EventLife, EventStatus, Hop
from query_api.upstream import Platform
from query_api.values import parse_datetime

RAW = "sales.raw.v1"
VALIDATED = "sales.validated.v1"
ENRICHED = "sales.enriched.v1"
QUARANTINE = "sales.quarantine.v1"

STAGES = ("received", "raw", "quality", "validated", "quarantine", "enriched", "warehouse", "lake")
"""The order of hops; one of another name comes last."""

_HOP_COLUMNS = """,
    ingest_ts, validated_ts, loaded_at, raw_partition, raw_offset, validated_partition, validated_offset,
    enriched_partition, enriched_offset
"""
_FACT = (
    "SELECT <columns> FROM warehouse.fact_sales WHERE event_id = $1 ORDER BY revision DESC LIMIT 1".replace(
        "<columns>", COLUMNS + _HOP_COLUMNS
    )
)
# An item that ingest itself refused has no event id: it is known by its item id.
_ITEM = """
SELECT item_id, event_id, state, reason, ingest_ts, quarantined_ts, raw_partition, raw_offset,
       quarantine_partition, quarantine_offset
FROM ops.quarantine WHERE event_id = $1 OR item_id = $1
ORDER BY (state = 'OPEN') DESC, quarantined_ts DESC, item_id LIMIT 1
"""


class Lives:
    """Tells an event's status by the same words as the ledger: GOLD once it is in both lake and warehouse."""

    def __init__(self, store: Store, platform: Platform) -> None:
        self._store = store
        self._platform = platform

    async def life(self, event_id: str) -> EventLife | None:
        """None where no store and no topic knows the id. Raises `UpstreamUnavailableError` if the warehouse
        does not know it and the ledger cannot be asked."""
        fact, item, heard = await asyncio.gather(
            self._store.row(_FACT, event_id),
            self._store.row(_ITEM, event_id),
            self._hear(event_id),
        )
        if fact is not None:
            return _accepted(fact, heard if isinstance(heard, dict) else None)
        if item is not None and item["state"] == "OPEN":
            return _refused(event_id, item, heard if isinstance(heard, dict) else None)
        if isinstance(heard, ApiError):
            raise heard
        return None if heard is None else _underway(event_id, heard)

    async def _hear(self, event_id: str) -> dict[str, Any] | ApiError | None:
        """The ledger's answer, or why there is none: what the warehouse knows is answered without it."""
        try:
            return await self._platform.event(event_id)
        except ApiError as error:
            return error


def _accepted(fact: Row, heard: dict[str, Any] | None) -> EventLife:
    columns = dict(fact.items())
    hops = [
        Hop(stage="received", at=columns.pop("ingest_ts")),
        _hop("raw", None, RAW, columns.pop("raw_partition"), columns.pop("raw_offset")),
        _hop(
            "validated",
            columns.pop("validated_ts"),
            VALIDATED,
            columns.pop("validated_partition"),
            columns.pop("validated_offset"),
        ),
        _hop(
            "enriched",
            columns["recorded_at"],
            ENRICHED,
            columns.pop("enriched_partition"),
            columns.pop("enriched_offset"),
        ),
        Hop(stage="warehouse", at=columns.pop("loaded_at")),
    ]
    awaited = heard is not None and heard.get("status") == EventStatus.IN_FLIGHT.value
    return EventLife(
        event_id=columns["event_id"],
        status=EventStatus.IN_FLIGHT if awaited else EventStatus.GOLD,
        reason=None,
        hops=_merged(hops, heard),
        sale=sale(columns),
    )


def _refused(event_id: str, item: Row, heard: dict[str, Any] | None) -> EventLife:
    hops = [Hop(stage="received", at=item["ingest_ts"])]
    if item["raw_partition"] is not None:
        hops.append(_hop("raw", None, RAW, item["raw_partition"], item["raw_offset"]))
    hops.append(
        _hop(
            "quarantine",
            item["quarantined_ts"],
            QUARANTINE,
            item["quarantine_partition"],
            item["quarantine_offset"],
        )
    )
    return EventLife(
        event_id=strawberry.ID(event_id),
        status=EventStatus.QUARANTINED,
        reason=item["reason"],
        hops=_merged(hops, heard),
        sale=None,
    )


def _underway(event_id: str, heard: dict[str, Any]) -> EventLife:
    """The topics know it and the warehouse has neither sale nor open item of it yet."""
    refused = heard.get("status") == EventStatus.QUARANTINED.value
    return EventLife(
        event_id=strawberry.ID(event_id),
        status=EventStatus.QUARANTINED if refused else EventStatus.IN_FLIGHT,
        reason=heard.get("reason"),
        hops=_merged([], heard),
        sale=None,
    )


def _merged(own: list[Hop], heard: dict[str, Any] | None) -> list[Hop]:
    """The stores' own hops, and from the ledger the stages and times that they do not know."""
    by_stage = {hop.stage: hop for hop in own}
    hops = list(own)
    for entry in (heard or {}).get("hops", []):
        told = _told(entry)
        known = by_stage.get(told.stage)
        if known is None:
            hops.append(told)
        elif known.at is None and (known.partition, known.offset) == (told.partition, told.offset):
            known.at = told.at
    order = {stage: place for place, stage in enumerate(STAGES)}
    return sorted(hops, key=lambda hop: order.get(hop.stage, len(order)))


def _told(entry: dict[str, Any]) -> Hop:
    offset = entry.get("offset")
    return Hop(
        stage=str(entry["stage"]),
        at=_time(entry.get("at")),
        topic=entry.get("topic"),
        partition=entry.get("partition"),
        offset=None if offset is None else str(offset),
    )


def _time(value: Any) -> datetime | None:
    """The ledger writes ISO 8601, or milliseconds since 1970 where it has them from Kafka."""
    if value is None:
        return None
    if isinstance(value, int | float):
        return datetime.fromtimestamp(value / 1000, UTC)
    return parse_datetime(value)


def _hop(stage: str, at: datetime | None, topic: str, partition: int, offset: int) -> Hop:
    return Hop(stage=stage, at=at, topic=topic, partition=partition, offset=str(offset))
