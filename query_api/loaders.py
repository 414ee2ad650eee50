"""Questions of one operation, gathered: a page of members costs one statement, and not one a member."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

from strawberry.dataloader import DataLoader

from query_api.members import CUSTOMERS, PRODUCTS, Members
from query_api.postgres import Row
from query_api.sales import Page
from schemas.personal import CustomerKey

SalesOf = tuple[str, int, str | None]
"""Customer id, first, after."""


class Loaders:
    """Of one request, or of one WebSocket: nothing is remembered, so that nothing gets old."""

    def __init__(self, members: Members) -> None:
        async def customers(keys: list[int]) -> Sequence[Row | None]:
            return await members.by_key(CUSTOMERS, keys)

        async def customer_histories(ids: list[str]) -> Sequence[list[Row]]:
            return await members.histories(CUSTOMERS, ids)

        async def product_histories(codes: list[str]) -> Sequence[list[Row]]:
            return await members.histories(PRODUCTS, codes)

        async def sales(wanted: list[SalesOf]) -> Sequence[Page]:
            by_page: dict[tuple[int, str | None], list[str]] = defaultdict(list)
            for customer, first, after in wanted:
                by_page[first, after].append(customer)
            found: dict[SalesOf, Page] = {}
            for (first, after), ids in by_page.items():
                unique = list(dict.fromkeys(ids))
                for customer, page in zip(unique, await members.sales(unique, first, after), strict=True):
                    found[customer, first, after] = page
            return [found[each] for each in wanted]

        self.customers: DataLoader[int, Row | None] = DataLoader(customers, cache=False)
        self.customer_histories: DataLoader[str, list[Row]] = DataLoader(customer_histories, cache=False)
        self.product_histories: DataLoader[str, list[Row]] = DataLoader(product_histories, cache=False)
        self.customer_keys: DataLoader[str, CustomerKey | None] = DataLoader(
            members.customer_keys, cache=False
        )
        self.sales: DataLoader[SalesOf, Page] = DataLoader(sales, cache=False)
        self.sale_counts: DataLoader[str, int] = DataLoader(members.sale_counts, cache=False)
