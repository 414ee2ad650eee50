"""The ledger's HTTP side: draws the balance from one consistent cut and answers where an event is.

A cut, in this order, so that nothing is seen late that was seen early:
1. how far enrich has committed;
2. the warehouse's ids and position, in one snapshot;
3. the lake's ids, of one table version;
4. the topics, up to the end they have after 3: whatever a store holds, the books now know of.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import asdict
from typing import Any

import asyncpg
import polars as pl
from fastapi import HTTPException

from quality_service.ledger.books import ACCEPTING, Balance, Progress
from quality_service.ledger.follow import DECISIONS, ENRICHED, QUARANTINE, RAW, VALIDATED, Follower
from quality_service.ledger.stores import LakeFacts, lake_latency, warehouse_facts, warehouse_latency
from schemas.decisions import Outcome

MICROS = 1_000_000
CUTS = 5


class LedgerService:
    def __init__(
        self,
        follower: Follower,
        lake: LakeFacts,
        pool: asyncpg.Pool,
        enrich_position: Callable[[], dict[int, int]],
        drawn: Callable[[Balance], None] = lambda _: None,
    ) -> None:
        """`drawn` is told every balance of all receipts, for metrics."""
        self._follower = follower
        self._lake = lake
        self._pool = pool
        self._enrich_position = enrich_position
        self._drawn = drawn
        self._one_at_a_time = asyncio.Lock()

    async def balance(self, load_id: str | None) -> dict[str, Any]:
        """The topics are read one after the other, so that a transaction committed in between shows on
        one and not yet on another. What is wrong for that reason is right in the next cut; what is
        wrong in all of them is wrong."""
        async with self._one_at_a_time:
            for _ in range(CUTS):
                balance = await self._cut(load_id)
                if balance.balanced:
                    break
        if load_id is None:
            self._drawn(balance)
        return _answer(balance, load_id)

    async def _cut(self, load_id: str | None) -> Balance:
        enrich = await asyncio.to_thread(self._enrich_position)
        warehouse, position = await warehouse_facts(self._pool)
        lake = await asyncio.to_thread(self._lake.read)
        if not await asyncio.to_thread(self._follower.wait_until_caught_up, 30.0):
            raise HTTPException(503, "the ledger is still reading the topics: try again")
        progress = Progress(enrich=enrich, warehouse=position)
        return await asyncio.to_thread(self._draw, lake, warehouse, progress, load_id)

    def _draw(
        self, lake: pl.DataFrame, warehouse: pl.DataFrame, progress: Progress, load_id: str | None
    ) -> Balance:
        with self._follower.lock:
            return self._follower.books.balance(lake, warehouse, progress, load_id)

    async def latency(self, load_id: str | None) -> dict[str, Any]:
        ids = None
        if load_id is not None:
            with self._follower.lock:
                raw, decisions = self._follower.books.raw.frame(), self._follower.books.decisions.frame()
            accepted = decisions.filter(pl.col("outcome").is_in(ACCEPTING))
            ids = raw.filter(pl.col("load_id") == load_id).join(accepted, on=["partition", "offset"])["id"]
        lake = await asyncio.to_thread(self._lake_latency, ids)
        return {"live": None, "warehouse": await warehouse_latency(self._pool, load_id), "lake": lake}

    def _lake_latency(self, ids: pl.Series | None) -> dict[str, float] | None:
        return lake_latency(self._lake.read(), ids)

    def life(self, event_id: str) -> dict[str, Any] | None:
        """The whole life of one event as the topics tell it, or None if none of them knows it."""
        with self._follower.lock:
            books = self._follower.books
            decisions = books.decisions.frame().filter(pl.col("event_id") == event_id)
            sale_id = decisions["id"].first()
            items = books.quarantine.frame().filter(
                (pl.col("event_id") == event_id) | (pl.col("item_id") == event_id)
            )
            if decisions.is_empty() and items.is_empty():
                return None
            is_repeat = pl.col("outcome") == Outcome.DUPLICATE
            repeats, decisions = decisions.filter(is_repeat), decisions.filter(~is_repeat)
            raw = books.raw.frame().join(decisions, on=["partition", "offset"], how="semi")
            validated = books.validated.frame().filter(pl.col("id") == sale_id)
            enriched = books.enriched.frame().filter(pl.col("id") == sale_id)
        hops = [
            *_hops("raw", RAW, raw),
            *_hops("quality", DECISIONS, decisions, coordinates=False),
            *_hops("validated", VALIDATED, validated),
            *_hops("quarantine", QUARANTINE, items),
            *_hops("enriched", ENRICHED, enriched),
            *_hops("duplicate", RAW, repeats),
        ]
        lake = self._lake.read().filter(pl.col("id") == sale_id)
        hops += _hops("lake", None, lake, coordinates=False)
        accepted = decisions.filter(pl.col("outcome").is_in(ACCEPTING)).height
        open_items = items.filter(pl.col("state") == "OPEN")
        status = "IN_FLIGHT" if accepted and lake.is_empty() else "GOLD" if accepted else "QUARANTINED"
        reason = open_items["reason"].last() if status == "QUARANTINED" and open_items.height else None
        return {"event_id": event_id, "status": status, "reason": reason, "hops": hops}


def _hops(
    stage: str, topic: str | None, rows: pl.DataFrame, *, coordinates: bool = True
) -> list[dict[str, Any]]:
    return [
        {
            "stage": stage,
            "at": row["at"],
            "topic": topic,
            "partition": row["partition"] if coordinates else None,
            "offset": str(row["offset"]) if coordinates else None,
        }
        for row in rows.sort("at").iter_rows(named=True)
    ]


def _answer(balance: Balance, load_id: str | None) -> dict[str, Any]:
    answer: dict[str, Any] = {
        "accepted": balance.accepted,
        "duplicates": balance.duplicates,
        "quarantined": balance.quarantined,
        "resolved": balance.resolved,
        "in_flight": balance.in_flight,
        "gold": {"lake": balance.lake, "warehouse": balance.warehouse, "search": None},
        "missing": balance.missing,
        "balanced": balance.balanced,
        "doubled": balance.doubled,
        "unexpected": balance.unexpected,
        "differing": balance.differing,
        "findings": [asdict(finding) | {"told": str(finding)} for finding in balance.findings],
    }
    if load_id is not None:
        answer |= {
            "load_id": load_id,
            "in_both": balance.gold,
            "amount_gold": money(balance.amount_gold),
            "amount_quarantined": money(balance.amount_quarantined),
        }
    return answer


def money(micros: int) -> str:
    """A decimal string without trailing zeros beyond the second place."""
    sign, (units, rest) = "-" if micros < 0 else "", divmod(abs(micros), MICROS)
    places = f"{rest:06}".rstrip("0").ljust(2, "0")
    return f"{sign}{units}.{places}"
