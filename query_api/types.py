"""The GraphQL types, as INTERFACES names them. They carry data; REST answers with the same ones."""

from __future__ import annotations

import enum
from datetime import date, datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Annotated, Any

import strawberry

if TYPE_CHECKING:
    from query_api.member_types import Customer


@strawberry.enum
class By(enum.Enum):
    REVENUE = "revenue"
    QUANTITY = "quantity"


@strawberry.enum
class Grain(enum.Enum):
    MINUTE = "minute"
    HOUR = "hour"
    DAY = "day"
    MONTH = "month"
    YEAR = "year"


@strawberry.enum
class EventStatus(enum.Enum):
    GOLD = "GOLD"
    QUARANTINED = "QUARANTINED"
    IN_FLIGHT = "IN_FLIGHT"


@strawberry.input(description="Days in UTC by invoice time; `to` is exclusive.")
class Range:
    from_: date | None = strawberry.field(name="from", default=None)
    to: date | None = None


@strawberry.input(description="All that are given must hold. `country` is the name as it was received.")
class SaleFilter:
    range: Range | None = None
    country: str | None = None
    stock_code: str | None = None
    customer_id: str | None = None
    invoice_no: str | None = None
    is_return: bool | None = None


@strawberry.type(description="One accepted invoice line.")
class Sale:
    event_id: strawberry.ID
    source: str
    invoice_no: str
    line_no: int
    stock_code: str
    description: str | None
    quantity: int = strawberry.field(description="Negative on a return.")
    unit_price: Decimal
    currency: str = strawberry.field(description="ISO 4217.")
    amount: Decimal = strawberry.field(description="quantity x unitPrice, in `currency`.")
    amount_gbp: Decimal | None = strawberry.field(description="At the dated rate; null while there is none.")
    customer_id: str | None
    country: str | None = strawberry.field(description="The name as it was received.")
    country_code: str | None = strawberry.field(description="ISO 3166-1 alpha-2.")
    region: str | None
    invoice_ts: datetime
    is_return: bool = strawberry.field(description="A line of a cancellation (invoice begins with C).")
    is_product: bool
    quality_score: float = strawberry.field(description="1.0 without warnings.")
    customer_key: strawberry.ID
    product_key: strawberry.ID
    revision: int
    recorded_at: datetime = strawberry.field(description="When this revision was made.")


@strawberry.type
class SaleEdge:
    cursor: str
    node: Sale


@strawberry.type
class PageInfo:
    has_next_page: bool
    has_previous_page: bool
    start_cursor: str | None
    end_cursor: str | None


@strawberry.type(description="Amounts in GBP at the dated rate.")
class Kpis:
    revenue: Decimal = strawberry.field(description="All lines net, returns and non-products included.")
    gross_revenue: Decimal = strawberry.field(description="Lines of invoices that are no cancellation.")
    returns: Decimal = strawberry.field(description="Lines of cancellations: a negative amount.")
    orders: int = strawberry.field(description="Distinct invoices that are no cancellation.")
    lines: int
    units: int = strawberry.field(description="Net.")
    customers: int = strawberry.field(description="Distinct customer ids of all lines.")
    average_order_value: Decimal | None = strawberry.field(
        description="grossRevenue / orders, rounded half to even at six places; null without orders."
    )


@strawberry.type(description="One bucket of time that has sales.")
class SeriesPoint:
    at: datetime = strawberry.field(description="Begin of the bucket, UTC.")
    revenue: Decimal
    orders: int
    lines: int


@strawberry.type
class CountryRevenue:
    country: str | None
    country_code: str | None
    region: str | None
    revenue: Decimal
    orders: int
    lines: int


@strawberry.type
class ProductSales:
    stock_code: str
    description: str | None = strawberry.field(description="The one most lines carry.")
    revenue: Decimal
    quantity: int
    lines: int


@strawberry.type
class Invoice:
    customer_key: strawberry.Private[int | None]
    invoice_no: strawberry.ID
    source: str
    invoice_ts: datetime = strawberry.field(description="Of its first line.")
    country: str | None
    is_return: bool
    amount: Decimal
    amount_gbp: Decimal | None = strawberry.field(description="Null while a line has no rate.")
    lines: list[Sale]

    @strawberry.field(description="As of the sale; null for a guest.")  # type: ignore[untyped-decorator]
    async def customer(
        self, info: strawberry.Info[Any, Any]
    ) -> Annotated[Customer, strawberry.lazy("query_api.member_types")] | None:
        from query_api.member_types import customer  # noqa: PLC0415 - a customer has sales, and they invoices

        if self.customer_key is None:
            return None
        row = await info.context.loaders.customers.load(self.customer_key)
        return None if row is None else customer(row)


@strawberry.type(description="One station on an event's way; `offset` is a string because it may pass 2^53.")
class Hop:
    stage: str
    at: datetime | None = None
    topic: str | None = None
    partition: int | None = None
    offset: str | None = None


@strawberry.type
class EventLife:
    event_id: strawberry.ID
    status: EventStatus
    reason: str | None
    hops: list[Hop]
    sale: Sale | None


@strawberry.type(description="How often a rule applied.")
class RuleCount:
    rule: str
    severity: str = strawberry.field(description="error: refused; warning: kept and scored.")
    count: int


@strawberry.type(description="The balance of all receipts: see the ledger.")
class Ledger:
    accepted: int
    duplicates: int
    quarantined: int
    resolved: int
    in_flight: int
    balanced: bool


@strawberry.type
class Stage:
    name: str
    state: str = strawberry.field(description="starting, ready, degraded, or stopped if it does not answer.")
    lag: int | None = strawberry.field(description="Records not yet read.")
    lag_seconds: float | None
    p50_ms: float | None = strawberry.field(description="From acceptance to this stage's commit.")
    p99_ms: float | None
