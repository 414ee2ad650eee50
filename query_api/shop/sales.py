"""Sales and invoices under REST v1, to read: the same facts as GraphQL's, in snake case."""

from __future__ import annotations

from datetime import date
from typing import Annotated, Any

import orjson
from fastapi import APIRouter, Depends, Query
from starlette.responses import Response

from query_api.errors import NotFoundError
from query_api.rest import plain
from query_api.sales import Sales
from query_api.shop.access import Permission, Principal, require
from query_api.types import Invoice, Range, SaleFilter

Reader = Annotated[Principal, Depends(require(Permission.READ))]
First = Annotated[int, Query(ge=1, le=1000, description="Items of the page.")]


def router(sales: Sales) -> APIRouter:
    routes = APIRouter(prefix="/api/v1", tags=["sales"])

    @routes.get("/sales", response_model=None)
    async def page(
        _who: Reader,
        *,
        from_: Annotated[date | None, Query(alias="from", description="First day, UTC.")] = None,
        to: Annotated[date | None, Query(description="Day after the last, UTC.")] = None,
        country: Annotated[str | None, Query(description="The name as it was received.")] = None,
        stock_code: str | None = None,
        customer_id: str | None = None,
        invoice_no: str | None = None,
        is_return: bool | None = None,
        first: First = 50,
        after: Annotated[str | None, Query(description="`next` of the page before.")] = None,
    ) -> Response:
        """Invoice lines, newest first."""
        wanted = SaleFilter(
            range=Range(from_=from_, to=to),
            country=country,
            stock_code=stock_code,
            customer_id=customer_id,
            invoice_no=invoice_no,
            is_return=is_return,
        )
        found = await sales.page(first, after, wanted)
        following = found.info.end_cursor if found.info.has_next_page else None
        return _json({"items": [plain(edge.node) for edge in found.edges], "next": following})

    @routes.get("/sales/{event_id}", response_model=None)
    async def sale(_who: Reader, event_id: str) -> Response:
        """One invoice line."""
        found = await sales.one(event_id)
        if found is None:
            raise NotFoundError(f"there is no sale {event_id}")
        return _json(plain(found))

    @routes.get("/invoices/{invoice_no}", response_model=None)
    async def invoice(_who: Reader, invoice_no: str) -> Response:
        """An invoice with its lines; the latest, where two sources share the number."""
        found = await sales.invoice(invoice_no)
        if found is None:
            raise NotFoundError(f"there is no invoice {invoice_no}")
        return _json(_invoice(found))

    return routes


def _invoice(found: Invoice) -> dict[str, Any]:
    return {**plain(found), "lines": [plain(line) for line in found.lines]}


def _json(body: dict[str, Any]) -> Response:
    return Response(orjson.dumps(body, default=str), media_type="application/json")
