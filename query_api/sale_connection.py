"""GraphQL's page of sales, wherever it stands."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import strawberry

from query_api.context import documented
from query_api.sales import Page
from query_api.types import PageInfo, SaleEdge


@documented
@strawberry.type
class SaleConnection:
    page: strawberry.Private[Page]
    counted: strawberry.Private[Callable[[], Awaitable[int]]]

    @strawberry.field
    async def total_count(self) -> int:
        """All sales that pass the filter, whatever the page."""
        return await self.counted()

    @strawberry.field
    def edges(self) -> list[SaleEdge]:
        return self.page.edges

    @strawberry.field
    def page_info(self) -> PageInfo:
        return self.page.info
