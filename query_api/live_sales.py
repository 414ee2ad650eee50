"""The `sales` subscription: each sale as it becomes part of gold, from the enriched topic."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any, Protocol

import polars as pl

from query_api.filters import filter_key
from query_api.live import Queue, Seats
from query_api.types import Sale, SaleFilter
from schemas.codec import Codec
from schemas.heartbeat import is_heartbeat

_MICRO = Decimal("0.000001")


class Tail(Protocol):
    """What is needed of `topic_tail.TopicTail`."""

    def start(self) -> None: ...

    def stop(self) -> None: ...


@dataclass(slots=True)
class _Client:
    wanted: SaleFilter | None
    queue: Queue[Sale]


class LiveSales:
    """Belongs to the event loop's thread, but for the reader. The topic is read while there is a client."""

    def __init__(self, seats: Seats, *, buffer: int = 1_000) -> None:
        """`buffer`: sales that may wait for one client."""
        self._seats = seats
        self._buffer = buffer
        self._clients: list[_Client] = []
        self._tail: Tail | None = None

    def feed_from(self, tail: Tail) -> None:
        """To be called once, before the first client."""
        self._tail = tail

    async def follow(self, wanted: SaleFilter | None) -> AsyncGenerator[Sale, None]:
        """Sales that become part of gold from now on. Raises `TooSlowError` and `TooMuchError`."""
        assert self._tail is not None, "set where the process is put together"
        with self._seats.seat():
            client = _Client(wanted, Queue(self._buffer))
            self._clients.append(client)
            try:
                if len(self._clients) == 1:
                    self._tail.start()
                async for sale in client.queue.drain():
                    yield sale
            finally:
                self._clients.remove(client)
                if not self._clients:
                    self._tail.stop()

    def filters(self) -> dict[Hashable, SaleFilter | None]:
        """What is asked for at present, each once. May be called on any thread."""
        return {filter_key(client.wanted): client.wanted for client in list(self._clients)}

    def put(self, found: Mapping[Hashable, Sequence[Sale]]) -> None:
        """`found`: sales by the key of their filter."""
        for client in self._clients:
            if sales := found.get(filter_key(client.wanted)):
                client.queue.put(sales)


class SalesReader:
    """A `topic_tail.Reader` of the enriched topic. Filters columns; only what a client gets becomes rows."""

    def __init__(self, codec: Codec, live: LiveSales, in_loop: Callable[[Callable[[], None]], None]) -> None:
        """`in_loop` runs an action on the event loop's thread."""
        self._codec = codec
        self._live = live
        self._in_loop = in_loop

    def begin(self) -> None:
        """Nothing is kept."""

    def read(self, messages: Sequence[Any]) -> None:
        filters = self._live.filters()
        frame = self._codec.decode([m.value() for m in messages]).frame.filter(~is_heartbeat())
        found = {key: sales(frame.filter(*conditions(wanted))) for key, wanted in filters.items()}
        self._in_loop(lambda: self._live.put(found))

    def lacking(self, partitions: Sequence[int]) -> Sequence[int]:
        return []

    def complete(self) -> None:
        """Nothing waits for it."""


def conditions(wanted: SaleFilter | None) -> list[pl.Expr]:
    """As `filters.Where.sales`, over the columns of EnrichedSale."""
    if wanted is None:
        return []
    given: list[pl.Expr] = []
    day, span = pl.col("invoice_ts").dt.date(), wanted.range
    if span is not None and span.from_ is not None:
        given.append(day >= span.from_)
    if span is not None and span.to is not None:
        given.append(day < span.to)
    for name in ("country", "stock_code", "customer_id", "invoice_no", "is_return"):
        value = getattr(wanted, name)
        if value is not None:
            given.append(pl.col(name) == value)
    return given


def sales(frame: pl.DataFrame) -> list[Sale]:
    """Rows of EnrichedSale as the API tells them."""
    return [_sale(row) for row in frame.iter_rows(named=True)]


def _sale(row: Mapping[str, Any]) -> Sale:
    gbp = row["amount_gbp_micros"]
    return Sale(
        event_id=row["event_id"],
        source=row["source_system"],
        invoice_no=row["invoice_no"],
        line_no=row["line_no"],
        stock_code=row["stock_code"],
        description=row["description"],
        quantity=row["quantity"],
        unit_price=_decimal(row["unit_price_micros"]),
        currency=row["currency"],
        amount=_decimal(row["total_amount_micros"]),
        amount_gbp=None if gbp is None else _decimal(gbp),
        customer_id=row["customer_id"],
        country=row["country"],
        country_code=row["country_code"],
        region=row["region"],
        invoice_ts=_utc(row["invoice_ts"]),
        is_return=row["is_return"],
        is_product=row["is_product"],
        quality_score=row["quality_score"],
        customer_key=row["customer_key"],
        product_key=row["product_key"],
        revision=row["revision"],
        recorded_at=_utc(row["recorded_at"]),
    )


def _decimal(micros: int) -> Decimal:
    return micros * _MICRO


def _utc(at: datetime) -> datetime:
    return at.replace(tzinfo=UTC)
