"""REST v2: the same analytics as GraphQL, by the same functions, in snake case."""

from __future__ import annotations

import dataclasses
import types
import typing
from collections.abc import Sequence
from datetime import date, datetime
from decimal import Decimal
from typing import Annotated, Any

import orjson
from fastapi import APIRouter, Query
from starlette.responses import Response

from query_api.errors import BadInputError
from query_api.graph import MAX_FIRST, bounded
from query_api.kpis import Analytics
from query_api.types import By, CountryRevenue, Grain, Kpis, ProductSales, Range, SeriesPoint
from query_api.values import datetime_text, decimal_text, parse_datetime

From = Annotated[date | None, Query(alias="from", description="First day, UTC.")]
To = Annotated[date | None, Query(description="Day after the last, UTC.")]
Country = Annotated[str | None, Query(description="The name as it was received.")]
First = Annotated[int, Query(ge=0, le=MAX_FIRST)]
AsOf = Annotated[str | None, Query(description="ISO 8601; only what was recorded then or before.")]


def router(analytics: Analytics) -> APIRouter:
    """Routes under `/api/v2/analytics`."""
    routes = APIRouter(prefix="/api/v2/analytics", tags=["analytics"])

    @routes.get("/kpis", responses=_answers(Kpis))
    async def kpis(
        from_: From = None, to: To = None, country: Country = None, as_of: AsOf = None
    ) -> Response:
        """Revenue, orders and the other figures of a range of days."""
        at = None if as_of is None else _time("as_of", as_of)
        return _json(plain(await analytics.kpis(Range(from_=from_, to=to), country, at)))

    @routes.get("/revenue-by-country", responses=_answers(CountryRevenue, many=True))
    async def revenue_by_country(from_: From = None, to: To = None, first: First = 50) -> Response:
        """Highest first."""
        return _items(await analytics.countries(Range(from_=from_, to=to), bounded(first, 50)))

    @routes.get("/top-products", responses=_answers(ProductSales, many=True))
    async def top_products(
        from_: From = None,
        to: To = None,
        first: First = 10,
        by: str = "revenue",
        include_non_products: bool = False,
    ) -> Response:
        """By `revenue` or `quantity`, highest first."""
        wanted = _choice("by", By, by)
        return _items(
            await analytics.products(
                Range(from_=from_, to=to), bounded(first, 10), wanted, include_non_products
            )
        )

    @routes.get("/sales-series", responses=_answers(SeriesPoint, many=True))
    async def sales_series(
        from_: From = None, to: To = None, grain: str = "day", country: Country = None
    ) -> Response:
        """By `minute`, `hour`, `day`, `month` or `year`, ascending; buckets without sales are left out."""
        wanted = _choice("grain", Grain, grain)
        return _items(await analytics.series(Range(from_=from_, to=to), wanted, country))

    return routes


def plain(answer: Any) -> dict[str, Any]:
    """An answer's fields in snake case, amounts and times as text."""
    return {field.name: _plain_value(getattr(answer, field.name)) for field in dataclasses.fields(answer)}


def _plain_value(value: Any) -> Any:
    if isinstance(value, Decimal):
        return decimal_text(value)
    if isinstance(value, datetime):
        return datetime_text(value)
    return value


def _items(answers: Sequence[Any]) -> Response:
    return _json({"items": [plain(answer) for answer in answers]})


def _json(body: dict[str, Any]) -> Response:
    return Response(orjson.dumps(body), media_type="application/json")


def _time(name: str, text: str) -> datetime:
    try:
        # A "+" that was not escaped arrives as a space.
        return parse_datetime(text.replace(" ", "+") if "T" in text else text)
    except ValueError as error:
        raise BadInputError(f"{name}: {error}") from None


E_ = typing.TypeVar("E_", By, Grain)


def _choice(name: str, kind: type[E_], text: str) -> E_:
    """GraphQL's names are accepted too, so case does not matter."""
    try:
        return kind(text.lower())
    except ValueError:
        allowed = ", ".join(member.value for member in kind)
        raise BadInputError(f"{name} must be one of {allowed}, not {text!r}") from None


def _answers(kind: type[Any], *, many: bool = False) -> dict[int | str, dict[str, Any]]:
    """The OpenAPI description of an answer, taken from its type."""
    one = {
        "type": "object",
        "properties": {
            field.name: _json_type(typing.get_type_hints(kind)[field.name])
            for field in dataclasses.fields(kind)
        },
    }
    items = {"type": "object", "properties": {"items": {"type": "array", "items": one}}}
    return {200: {"content": {"application/json": {"schema": items if many else one}}}}


_JSON_TYPES: dict[Any, dict[str, Any]] = {
    str: {"type": "string"},
    int: {"type": "integer"},
    Decimal: {"type": "string", "format": "decimal"},
    datetime: {"type": "string", "format": "date-time"},
}


def _json_type(hint: Any) -> dict[str, Any]:
    if isinstance(hint, types.UnionType):
        known = next(arg for arg in typing.get_args(hint) if arg is not types.NoneType)
        return {**_JSON_TYPES[known], "nullable": True}
    return _JSON_TYPES[hint]
