"""The `sales` subscription: who gets which sale, and how a record becomes one."""

from __future__ import annotations

import asyncio
import datetime as dt
from decimal import Decimal
from typing import Any

import polars as pl
import pytest

from query_api.filters import filter_key
from query_api.live import Seats
from query_api.live_sales import LiveSales, SalesReader, conditions, sales
from query_api.types import Range, Sale, SaleFilter
from schemas.catalogue import load_topics
from schemas.codec import Codec
from schemas.example_files import examples
from schemas.fakes import InMemoryRegistry

TOPIC = load_topics()["sales.enriched.v1"]
LATE = dt.datetime(2010, 12, 2, 23, 59, 59)


def enriched(*rows: dict[str, Any]) -> pl.DataFrame:
    """Enriched sales that differ from the first example by what is given."""
    like = examples(TOPIC).head(1)
    return pl.concat(
        [like.with_columns(*(pl.lit(v, like[k].dtype).alias(k) for k, v in row.items())) for row in rows]
    )


class Message:
    def __init__(self, value: bytes) -> None:
        self._value = value

    def value(self) -> bytes:
        return self._value


class Tail:
    def __init__(self) -> None:
        self.calls: list[str] = []

    def start(self) -> None:
        self.calls.append("start")

    def stop(self) -> None:
        self.calls.append("stop")


@pytest.mark.parametrize(
    ("wanted", "ids"),
    [
        (None, "abc"),
        (SaleFilter(), "abc"),
        (SaleFilter(country="EIRE"), "a"),
        (SaleFilter(is_return=True), "b"),
        (SaleFilter(stock_code="POST", is_return=False), "c"),
        (SaleFilter(customer_id="1"), "a"),
        (SaleFilter(invoice_no="C1"), "b"),
        (SaleFilter(range=Range(from_=dt.date(2010, 12, 2))), "bc"),
        (SaleFilter(range=Range(to=dt.date(2010, 12, 2))), "a"),
        (SaleFilter(range=Range(from_=dt.date(2010, 12, 3), to=dt.date(2010, 12, 2))), ""),
    ],
)
def test_a_filter_lets_through_what_it_names(wanted: SaleFilter | None, ids: str) -> None:
    frame = enriched(
        {"event_id": "a", "country": "EIRE", "customer_id": "1", "invoice_ts": dt.datetime(2010, 12, 1)},
        {"event_id": "b", "country": None, "invoice_no": "C1", "is_return": True, "customer_id": None,
         "invoice_ts": dt.datetime(2010, 12, 2)},
        {"event_id": "c", "country": "France", "stock_code": "POST", "customer_id": "2", "invoice_ts": LATE},
    )  # fmt: skip
    assert [sale.event_id for sale in sales(frame.filter(*conditions(wanted)))] == list(ids)


def test_a_record_becomes_a_sale_with_exact_amounts_and_times_in_utc() -> None:
    (sale,) = sales(
        enriched(
            {"unit_price_micros": 2_550_001, "total_amount_micros": -5, "amount_gbp_micros": None,
             "invoice_ts": LATE, "revision": 3}
        )
    )  # fmt: skip
    assert (sale.unit_price, sale.amount, sale.amount_gbp) == (
        Decimal("2.550001"),
        Decimal("-0.000005"),
        None,
    )
    assert sale.invoice_ts == LATE.replace(tzinfo=dt.UTC)
    assert sale.revision == 3


def test_each_client_gets_its_sales_and_the_topic_is_read_only_while_there_is_one() -> None:
    registry = InMemoryRegistry()
    schema_id = registry.register(TOPIC.subject, TOPIC.schema_text)
    codec = Codec(TOPIC.schema_text, registry)
    frame = enriched({"event_id": "a", "country": "EIRE"}, {"event_id": "b", "country": "France"})

    async def test() -> None:
        live, tail = LiveSales(Seats(5)), Tail()
        live.feed_from(tail)
        reader = SalesReader(codec, live, lambda action: action())
        every, french = live.follow(None), live.follow(SaleFilter(country="France"))
        waiting = [asyncio.create_task(anext(each)) for each in (every, french)]
        await asyncio.sleep(0)
        assert set(live.filters()) == {filter_key(None), filter_key(SaleFilter(country="France"))}
        reader.read([Message(value) for value in codec.encode(frame, schema_id)])
        first: list[Sale] = list(await asyncio.gather(*waiting))
        assert [sale.event_id for sale in first] == ["a", "b"]
        assert (await anext(every)).event_id == "b"
        await every.aclose()
        assert tail.calls == ["start"]
        await french.aclose()
        assert tail.calls == ["start", "stop"]

    asyncio.run(test())
