"""GraphQL's customers and products: versions of a member, and what hangs on it."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from decimal import Decimal

import strawberry

from query_api.bounds import bounded
from query_api.context import Asked, documented
from query_api.members import CUSTOMERS, PRODUCTS, MemberPage, cursor_of
from query_api.postgres import Row
from query_api.sale_connection import SaleConnection
from query_api.types import PageInfo
from schemas.personal import PersonalDataError


@documented
@strawberry.type(description="One version of a customer.")
class Customer:
    id: strawberry.ID
    customer_key: strawberry.ID = strawberry.field(description="Surrogate key of this version.")
    sealed: strawberry.Private[Mapping[str, str | None]]
    country: str | None
    country_code: str | None = strawberry.field(description="ISO 3166-1 alpha-2.")
    segment: str | None
    value_tier: str | None
    effective_date: datetime = strawberry.field(description="1900-01-01 for the first version.")
    expiry_date: datetime | None = strawberry.field(description="Exclusive; null while the version is open.")
    is_current: bool
    version_number: int

    @strawberry.field
    async def name(self, info: Asked) -> str | None:
        """Null where it was erased, or for who may not read it."""
        return await self._opened("name", info)

    @strawberry.field
    async def email(self, info: Asked) -> str | None:
        """Null where it was erased, or for who may not read it."""
        return await self._opened("email", info)

    async def _opened(self, name: str, info: Asked) -> str | None:
        sealed = self.sealed[name]
        if sealed is None:
            return None
        key = await info.context.loaders.customer_keys.load(str(self.id))
        try:
            return None if key is None else key.decrypt(name, sealed)
        except PersonalDataError:
            return None  # of a key that was shredded before the customer came back

    @strawberry.field
    async def history(self, info: Asked) -> list[Customer]:
        """All versions, oldest first."""
        return [customer(row) for row in await info.context.loaders.customer_histories.load(str(self.id))]

    @strawberry.field
    async def sales(self, info: Asked, first: int | None = 50, after: str | None = None) -> SaleConnection:
        """All sales of the customer, newest first."""
        loaders, own = info.context.loaders, str(self.id)
        page = await loaders.sales.load((own, bounded(first, 50), after))
        return SaleConnection(page=page, counted=lambda: loaders.sale_counts.load(own))


@documented
@strawberry.type(description="One version of a product.")
class Product:
    stock_code: strawberry.ID
    product_key: strawberry.ID = strawberry.field(description="Surrogate key of this version.")
    description: str | None
    category: str | None
    list_price: Decimal | None
    effective_date: datetime = strawberry.field(description="1900-01-01 for the first version.")
    expiry_date: datetime | None = strawberry.field(description="Exclusive; null while the version is open.")
    is_current: bool
    version_number: int

    @strawberry.field
    async def history(self, info: Asked) -> list[Product]:
        """All versions, oldest first."""
        found = await info.context.loaders.product_histories.load(str(self.stock_code))
        return [product(row) for row in found]


@strawberry.type
class CustomerEdge:
    cursor: str
    node: Customer


@strawberry.type
class ProductEdge:
    cursor: str
    node: Product


@documented
@strawberry.type
class CustomerConnection:
    page: strawberry.Private[MemberPage]

    @strawberry.field
    async def total_count(self, info: Asked) -> int:
        """Customers that are there now."""
        return await info.context.parts.members.count(CUSTOMERS)

    @strawberry.field
    def edges(self) -> list[CustomerEdge]:
        return [
            CustomerEdge(cursor=cursor_of(row["customer_id"]), node=customer(row)) for row in self.page.rows
        ]

    @strawberry.field
    def page_info(self) -> PageInfo:
        return _info(self.page, "customer_id")


@documented
@strawberry.type
class ProductConnection:
    page: strawberry.Private[MemberPage]

    @strawberry.field
    async def total_count(self, info: Asked) -> int:
        """Products that are there now."""
        return await info.context.parts.members.count(PRODUCTS)

    @strawberry.field
    def edges(self) -> list[ProductEdge]:
        return [ProductEdge(cursor=cursor_of(row["stock_code"]), node=product(row)) for row in self.page.rows]

    @strawberry.field
    def page_info(self) -> PageInfo:
        return _info(self.page, "stock_code")


def customer(row: Row) -> Customer:
    """From a row of `members.CUSTOMERS`, where name and email are ciphertext."""
    values = dict(row.items())
    sealed = {name: values.pop(name) for name in ("name", "email")}
    return Customer(id=values.pop("customer_id"), sealed=sealed, **values)


def product(row: Row) -> Product:
    """From a row of `members.PRODUCTS`."""
    return Product(**dict(row.items()))


def _info(page: MemberPage, natural: str) -> PageInfo:
    cursors = [cursor_of(row[natural]) for row in page.rows]
    return PageInfo(
        has_next_page=page.has_next_page,
        has_previous_page=page.after is not None,
        start_cursor=cursors[0] if cursors else None,
        end_cursor=cursors[-1] if cursors else page.after,
    )
