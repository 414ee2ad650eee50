"""The GraphQL schema: which question goes to which part. What the answers mean stands with those parts."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable
from datetime import date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any, TypeVar

import strawberry
from graphql import (
    GraphQLArgument,
    GraphQLError,
    GraphQLField,
    GraphQLInputField,
    GraphQLInputObjectType,
    GraphQLObjectType,
    Undefined,
)
from strawberry.extensions import SchemaExtension
from strawberry.schema.config import StrawberryConfig
from strawberry.types import ExecutionContext
from strawberry.types.field import StrawberryField

from query_api.bounds import MAX_FIRST, bounded
from query_api.context import Asked, documented
from query_api.member_types import (
    Customer,
    CustomerConnection,
    Product,
    ProductConnection,
    customer,
    product,
)
from query_api.members import CUSTOMERS, PRODUCTS
from query_api.sale_connection import SaleConnection
from query_api.subscriptions import Subscription
from query_api.types import (
    By,
    CountryRevenue,
    EventLife,
    Grain,
    Invoice,
    Kpis,
    Ledger,
    ProductSales,
    Range,
    RuleCount,
    SaleFilter,
    SeriesPoint,
    Stage,
)
from query_api.values import datetime_text, decimal_text, parse_date, parse_datetime, parse_decimal

T = TypeVar("T")

__all__ = ["MAX_FIRST", "SDL_FILE", "WEIGHTS", "bounded", "build_schema", "sdl"]

SDL_FILE = Path(__file__).parent.parent / "schemas" / "graphql" / "schema.graphql"

WEIGHTS = {
    "SaleConnection.edges": 1,  # `first` stands on the connection
    "Query.salesSeries": 200,
    "Invoice.lines": 50,
    "EventLife.hops": 10,
    "CustomerConnection.edges": 1,
    "ProductConnection.edges": 1,
    "Customer.history": 5,
    "Product.history": 5,
    "Pipeline.stages": 15,
    "Quality.byRule": 30,
}
"""Factors of lists that take no `first`, for the cost rule."""


@documented
@strawberry.type
class Pipeline:
    @strawberry.field
    async def stages(self, info: Asked) -> list[Stage]:
        return await info.context.parts.platform.stages()

    @strawberry.field
    async def ledger(self, info: Asked) -> Ledger:
        return await info.context.parts.platform.ledger()


@documented
@strawberry.type
class Quality:
    score: float = strawberry.field(description="Mean quality score of the sales in the warehouse, 0 to 1.")
    rows: int = strawberry.field(description="Sales in the warehouse.")
    rejected: int = strawberry.field(description="Open items of quarantine.")
    warned: int = strawberry.field(description="Sales with a warning.")

    @strawberry.field
    async def by_rule(
        self, info: Asked, source: str | None = None, range: Range | None = None
    ) -> list[RuleCount]:
        """Sales by each rule that warned, by the day of the sale; refused items by the day they came in."""
        return await info.context.parts.quality.by_rule(source, range)


@documented
@strawberry.type
class Query:
    @strawberry.field
    async def sales(
        self, info: Asked, first: int | None = 50, after: str | None = None, filter: SaleFilter | None = None
    ) -> SaleConnection:
        """Newest first. `after` is the cursor of the last sale seen."""
        page = await info.context.parts.sales.page(bounded(first, 50), after, filter)
        return SaleConnection(page=page, counted=lambda: info.context.parts.sales.count(filter))

    @strawberry.field
    async def invoice(self, info: Asked, invoice_no: str) -> Invoice | None:
        """Numbers are per source: the latest when two sources share one."""
        return await info.context.parts.sales.invoice(invoice_no)

    @strawberry.field
    async def customer(self, info: Asked, id: str, as_of: datetime | None = None) -> Customer | None:
        """The current version, or the one that was true at `asOf`; null where there is none."""
        row = await info.context.parts.members.version(CUSTOMERS, id, as_of)
        return None if row is None else customer(row)

    @strawberry.field
    async def product(self, info: Asked, stock_code: str, as_of: datetime | None = None) -> Product | None:
        """The current version, or the one that was true at `asOf`; null where there is none."""
        row = await info.context.parts.members.version(PRODUCTS, stock_code, as_of)
        return None if row is None else product(row)

    @strawberry.field
    async def customers(
        self, info: Asked, first: int | None = 50, after: str | None = None
    ) -> CustomerConnection:
        """Current versions by id. `after` is the cursor of the last customer seen."""
        page = await info.context.parts.members.page(CUSTOMERS, bounded(first, 50), after)
        return CustomerConnection(page=page)

    @strawberry.field
    async def products(
        self, info: Asked, first: int | None = 50, after: str | None = None
    ) -> ProductConnection:
        """Current versions by stock code. `after` is the cursor of the last product seen."""
        page = await info.context.parts.members.page(PRODUCTS, bounded(first, 50), after)
        return ProductConnection(page=page)

    @strawberry.field
    async def kpis(
        self,
        info: Asked,
        range: Range | None = None,
        country: str | None = None,
        as_of: datetime | None = None,
    ) -> Kpis:
        """`asOf`: only what was recorded then or before."""
        return await info.context.parts.analytics.kpis(range, country, as_of)

    @strawberry.field
    async def sales_series(
        self,
        info: Asked,
        range: Range | None = None,
        grain: Grain | None = Grain.DAY,
        country: str | None = None,
    ) -> list[SeriesPoint]:
        """Ascending in time; buckets without sales are left out."""
        return await info.context.parts.analytics.series(range, grain or Grain.DAY, country)

    @strawberry.field
    async def revenue_by_country(
        self, info: Asked, range: Range | None = None, first: int | None = 50
    ) -> list[CountryRevenue]:
        """Highest first; sales without a country are one entry with a null name."""
        return await info.context.parts.analytics.countries(range, bounded(first, 50))

    @strawberry.field
    async def top_products(
        self,
        info: Asked,
        range: Range | None = None,
        first: int | None = 10,
        by: By | None = By.REVENUE,
        include_non_products: bool | None = False,
    ) -> list[ProductSales]:
        """Highest first."""
        return await info.context.parts.analytics.products(
            range, bounded(first, 10), by or By.REVENUE, bool(include_non_products)
        )

    @strawberry.field
    async def event(self, info: Asked, id: strawberry.ID) -> EventLife | None:
        """The life of one event; null where nothing knows the id."""
        return await info.context.parts.lives.life(id)

    @strawberry.field
    async def quality(self, info: Asked) -> Quality:
        """How good the sales are, and which rules they break."""
        return Quality(**dataclasses.asdict(await info.context.parts.quality.figures()))

    @strawberry.field
    async def pipeline(self) -> Pipeline:
        return Pipeline()


def _told(parse: Callable[[object], T]) -> Callable[[object], T]:
    """A value that cannot be parsed is the client's mistake, not ours."""

    def parse_or_tell(value: object) -> T:
        try:
            return parse(value)
        except ValueError as error:
            raise GraphQLError(str(error)) from None

    return parse_or_tell


SCALARS: dict[object, Any] = {
    Decimal: strawberry.scalar(
        name="Decimal",
        description="A decimal string without exponent: at least two places, at most six.",
        serialize=decimal_text,
        parse_value=_told(parse_decimal),
    ),
    datetime: strawberry.scalar(
        name="DateTime",
        description="ISO 8601 in UTC, such as 2010-12-01T08:26:00Z. On input, a naive time is UTC.",
        serialize=datetime_text,
        parse_value=_told(parse_datetime),
    ),
    date: strawberry.scalar(
        name="Date",
        description="YYYY-MM-DD.",
        serialize=date.isoformat,
        parse_value=_told(parse_date),
    ),
}


class Schema(strawberry.Schema):
    """Leaves the logging of errors to the extension that masks them."""

    def process_errors(
        self, errors: list[GraphQLError], execution_context: ExecutionContext | None = None
    ) -> None:
        return None


def build_schema(*extensions: Callable[[], SchemaExtension]) -> Schema:
    """`extensions` are factories: each operation gets its own."""
    schema = Schema(
        query=Query,
        subscription=Subscription,
        config=StrawberryConfig(scalar_map=SCALARS),
        extensions=extensions,
    )
    for named in schema._schema.type_map.values():
        if isinstance(named, GraphQLInputObjectType):
            _without_null_defaults(named.fields.values())
        elif isinstance(named, GraphQLObjectType):
            for field in named.fields.values():
                _without_null_defaults(field.args.values())
                _resolve_directly(field)
    return schema


def _resolve_directly(field: GraphQLField) -> None:
    """A field that only reads an attribute does just that: a page of sales has tens of thousands."""
    definition = field.extensions.get("strawberry-definition")
    if isinstance(definition, StrawberryField) and definition.base_resolver is None:
        field.resolve = _reader(definition.python_name)


def _reader(name: str) -> Callable[[Any, Any], Any]:
    return lambda source, _info: getattr(source, name)


def _without_null_defaults(inputs: Iterable[GraphQLArgument | GraphQLInputField]) -> None:
    """Python needs the default None; in the schema a nullable input is optional without saying `= null`."""
    for one in inputs:
        if one.default_value is None:
            one.default_value = Undefined


def sdl() -> str:
    """The schema as text, as `schemas/graphql/schema.graphql` keeps it."""
    return build_schema().as_str() + "\n"


def main() -> None:
    """`python -m query_api.graph` writes the schema file."""
    SDL_FILE.parent.mkdir(parents=True, exist_ok=True)
    SDL_FILE.write_text(sdl(), encoding="utf-8")


if __name__ == "__main__":
    main()
