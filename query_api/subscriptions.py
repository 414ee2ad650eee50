"""What a client may subscribe to, over a WebSocket."""

from __future__ import annotations

from collections.abc import AsyncGenerator

import strawberry

from query_api.context import Asked, documented
from query_api.types import Kpis, Sale, SaleFilter


@documented
@strawberry.type
class Subscription:
    @strawberry.subscription
    async def kpis(self, info: Asked) -> AsyncGenerator[Kpis, None]:
        """The figures of all time, whenever they change: sums from the live totals, `orders` and `customers`
        as the warehouse has them. A client that takes its time gets the newest and not those between."""
        async for kpis in info.context.parts.live_kpis.follow():
            yield kpis

    @strawberry.subscription
    async def sales(self, info: Asked, filter: SaleFilter | None = None) -> AsyncGenerator[Sale, None]:
        """Each sale from now on. A client that falls too far behind gets the error TOO_SLOW and no more."""
        async for sale in info.context.parts.live_sales.follow(filter):
            yield sale
