"""The `kpis` subscription: sums from the aggregates topic, distinct counts from the warehouse.

The aggregates process counts each sale once and publishes absolute totals per shard; their sum over the
shards is the figure of all time. Orders and customers do not add up: they are the warehouse's latest, asked
while there is a client and as often as it is cheap. averageOrderValue is computed from what stands beside it.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Context, Decimal
from typing import Any

from query_api.errors import ApiError, UpstreamUnavailableError
from query_api.live import Latest, Seats
from query_api.types import Kpis
from query_api.values import average
from schemas.aggregates import HEARTBEAT, TOTAL, amount
from schemas.codec import Codec

log = logging.getLogger(__name__)

_SHARE_S = 0.001
"""A message takes about a third of a millisecond of the event loop: where each client waits so long for its
next, all together take a third of it, and questions are answered beside them."""

_TOTAL_KEY = TOTAL.encode() + b"|"
_INGEST_TS = "ingest-ts"
_EXACT = Context(prec=60)


@dataclass(frozen=True, slots=True)
class Counted:
    """Of one shard, or their sum. Amounts are exact, in micros of GBP."""

    lines: int = 0
    units: int = 0
    gross: int = 0
    returns: int = 0

    def __add__(self, other: Counted) -> Counted:
        return Counted(
            self.lines + other.lines,
            self.units + other.units,
            self.gross + other.gross,
            self.returns + other.returns,
        )


@dataclass(frozen=True, slots=True)
class Distinct:
    """What the warehouse counts."""

    orders: int
    customers: int


def kpis(counted: Counted, distinct: Distinct) -> Kpis:
    gross, returns = _pounds(counted.gross), _pounds(counted.returns)
    return Kpis(
        revenue=_pounds(counted.gross + counted.returns),
        gross_revenue=gross,
        returns=returns,
        orders=distinct.orders,
        lines=counted.lines,
        units=counted.units,
        customers=distinct.customers,
        average_order_value=average(gross, distinct.orders),
    )


class LiveKpis:
    """Belongs to the event loop's thread. Times are in seconds."""

    def __init__(
        self,
        distinct: Callable[[], Awaitable[Distinct]],
        seats: Seats,
        *,
        interval: float = 0.1,
        heartbeat: float = 10.0,
        patience: float = 5.0,
        refresh: float = 1.0,
    ) -> None:
        """`distinct` asks the warehouse and may raise `ApiError`. A client gets a message every `interval` at
        most (less often where there are many), and one every `heartbeat` or so at least; it waits up to
        `patience` for the first."""
        self._ask = distinct
        self._seats = seats
        self._interval = interval
        self._heartbeat = heartbeat
        self._patience = patience
        self._refresh = refresh
        self._followers = 0
        self._refresher: asyncio.Task[None] | None = None
        self._counted: Latest[Counted] = Latest()
        self._distinct: Distinct | None = None
        self._latest: Latest[tuple[Counted, Distinct]] = Latest()

    def count(self, counted: Counted) -> None:
        """The totals have changed."""
        self._counted.publish(counted)
        if self._distinct is not None:
            self._latest.publish((counted, self._distinct))

    async def follow(self) -> AsyncGenerator[Kpis, None]:
        """Raises `ApiError` where there is nothing to tell yet."""
        with self._seats.seat():
            self._followers += 1
            try:
                await self._begin()
                async for counted, distinct in self._latest.follow(self._pace, self._heartbeat):
                    yield kpis(counted, distinct)
            finally:
                self._followers -= 1
                if self._followers == 0 and self._refresher is not None:
                    self._refresher.cancel()
                    self._refresher = None

    def _pace(self) -> float:
        return max(self._interval, self._followers * _SHARE_S)

    async def _begin(self) -> None:
        counted = await self._counted.first(self._patience)
        if counted is None:
            raise UpstreamUnavailableError("the live totals are not there yet")
        if self._refresher is None:
            # Nobody kept the distinct counts up to date until now.
            await self._update()
        if self._refresher is None:
            self._refresher = asyncio.create_task(self._keep_updating())

    async def _keep_updating(self) -> None:
        took = 0.0
        while True:
            # At most a tenth of the time is spent on it, whatever the size of the warehouse.
            await asyncio.sleep(max(self._refresh, 9 * took))
            began = time.monotonic()
            try:
                await self._update()
            except ApiError as error:
                log.warning("orders and customers stay as they were", extra={"error": str(error)})
            took = time.monotonic() - began

    async def _update(self) -> None:
        self._distinct = await self._ask()
        counted = await self._counted.first(0.0)
        if counted is not None:
            self._latest.publish((counted, self._distinct))


class TotalsReader:
    """A `topic_tail.Reader` of the aggregates topic: the last total of each shard."""

    def __init__(
        self,
        codec: Codec,
        changed: Callable[[Counted], None],
        observe: Callable[[Sequence[int]], None] = lambda _: None,
        heartbeats: Callable[[Sequence[int]], None] = lambda _: None,
    ) -> None:
        """`changed` gets the sum over the shards; `observe` the acceptance (ms since 1970 UTC) of the
        earliest sale in each batch, `heartbeats` that of its newest heartbeat. All are called on the tail's
        thread."""
        self._codec = codec
        self._changed = changed
        self._observe = observe
        self._heartbeats = heartbeats
        self._shards: dict[int, Counted] = {}
        self._complete = False

    def read(self, messages: Sequence[Any]) -> None:
        totals = [m for m in messages if (m.key() or b"").startswith(_TOTAL_KEY)]
        decoded = self._codec.decode([m.value() for m in totals])
        if decoded.bad:
            raise ValueError(f"a total cannot be decoded: {decoded.bad[0].reason}")
        for row in decoded.frame.unique("shard", keep="last").iter_rows(named=True):
            self._shards[row["shard"]] = _counted(row)
        if self._complete and totals:
            self._observe([at for m in totals if (at := _accepted(m, _INGEST_TS)) is not None])
            self._heartbeats([at for m in totals if (at := _accepted(m, HEARTBEAT)) is not None])
            self._tell()

    def begin(self) -> None:
        self._shards.clear()
        self._complete = False

    def lacking(self, partitions: Sequence[int]) -> Sequence[int]:
        """Each partition holds its shard's total, unless it is empty."""
        return [p for p in partitions if p not in self._shards]

    def complete(self) -> None:
        self._complete = True
        self._tell()

    def _tell(self) -> None:
        self._changed(sum(self._shards.values(), start=Counted()))


def _counted(row: Mapping[str, Any]) -> Counted:
    return Counted(
        lines=row["lines"],
        units=row["units"],
        gross=amount(row["gross_revenue_micros"], row["gross_revenue_carry"]),
        returns=amount(row["returns_micros"], row["returns_carry"]),
    )


def _accepted(message: Any, header: str) -> int | None:
    for name, value in message.headers() or ():
        if name == header and value is not None and value.isdigit():
            return int(value)
    return None


def _pounds(micros: int) -> Decimal:
    return _EXACT.scaleb(Decimal(micros), -6)
