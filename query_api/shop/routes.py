"""REST v1 over HTTP: what is read of a request, and how an answer is written. The same for every resource."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

import orjson
from fastapi import APIRouter, Depends
from starlette.requests import Request
from starlette.responses import Response

from query_api.errors import BadInputError, PreconditionRequiredError
from query_api.shop import openapi
from query_api.shop.access import Permission, Principal, require
from query_api.shop.bodies import merge, receive, validated
from query_api.shop.conditions import Tags, etag, not_modified
from query_api.shop.idempotency import Answer, Once
from query_api.shop.models import Body
from query_api.shop.resources import CUSTOMERS, RESOURCES, Resource, parse_filters, parse_key
from query_api.shop.service import Demands, Shop, represent

MAX_FIRST = 1000
DEFAULT_FIRST = 50

Reader = Annotated[Principal, Depends(require(Permission.READ))]
Writer = Annotated[Principal, Depends(require(Permission.READ, Permission.WRITE))]
Eraser = Annotated[Principal, Depends(require(Permission.ERASE))]


def router(shop: Shop, max_body_bytes: int) -> APIRouter:
    """Routes under `/api/v1` for every resource that can be written."""
    routes = APIRouter()
    for resource in RESOURCES:
        _read(routes, shop, resource)
        _write(routes, shop, resource, max_body_bytes)
        _change(routes, shop, resource, max_body_bytes)
    _erase(routes, shop)
    return routes


def _read(routes: APIRouter, shop: Shop, resource: Resource) -> None:
    async def page(request: Request, who: Reader) -> Response:
        query = _single(request)
        filters = parse_filters(resource, query)
        return _json(await shop.page(resource, filters, _first(query), query.get("after"), who))

    async def get(request: Request, who: Reader) -> Response:
        row = await shop.get(resource, parse_key(resource, request.path_params), who)
        headers = {"ETag": etag(row)}
        if not_modified(_tags(request, "If-None-Match"), row):
            return Response(status_code=304, headers=headers)
        return _json(represent(resource, row), headers)

    routes.get(resource.path, **openapi.page(resource))(page)
    routes.get(resource.item_path, **openapi.get(resource))(get)


def _write(routes: APIRouter, shop: Shop, resource: Resource, max_bytes: int) -> None:
    async def create(request: Request, who: Writer) -> Response:
        fields = await receive(request, max_bytes)
        return _answer(
            await shop.create(resource, validated(resource.new, fields), _demands(request, who, fields), who)
        )

    async def put(request: Request, who: Writer) -> Response:
        key = parse_key(resource, request.path_params)
        fields = await receive(request, max_bytes)
        demands = _demands(request, who, fields)
        if demands.match is None and demands.none_match is None:
            raise PreconditionRequiredError(
                "say what you expect: If-Match with the ETag of your last GET to replace it, "
                "If-None-Match: * to make it"
            )
        if demands.none_match is not None and (not demands.none_match.any or demands.match is not None):
            raise BadInputError("PUT takes If-Match, or If-None-Match: *")
        return _answer(await shop.put(resource, key, validated(resource.fields, fields), demands, who))

    routes.post(resource.path, **openapi.create(resource))(create)
    routes.put(resource.item_path, **openapi.put(resource))(put)


def _change(routes: APIRouter, shop: Shop, resource: Resource, max_bytes: int) -> None:
    async def patch(request: Request, who: Writer) -> Response:
        key = parse_key(resource, request.path_params)
        changes = await receive(request, max_bytes, "application/merge-patch+json")
        demands = _demands(request, who, changes)

        def apply(old: Mapping[str, Any]) -> Body:
            return validated(resource.fields, merge(old, changes))

        return _answer(await shop.patch(resource, key, apply, demands, who))

    async def delete(request: Request, who: Writer) -> Response:
        key = parse_key(resource, request.path_params)
        return _answer(await shop.delete(resource, key, _demands(request, who, {})))

    routes.patch(resource.item_path, **openapi.patch(resource))(patch)
    routes.delete(resource.item_path, **openapi.delete(resource))(delete)


def _erase(routes: APIRouter, shop: Shop) -> None:
    async def erase(request: Request, who: Eraser) -> Response:
        return _answer(await shop.erase(CUSTOMERS, parse_key(CUSTOMERS, request.path_params)))

    routes.delete(f"{CUSTOMERS.item_path}/personal-data", **openapi.erase(CUSTOMERS))(erase)


def _demands(request: Request, who: Principal, fields: Mapping[str, Any]) -> Demands:
    headers = request.headers
    content = (
        (headers.get("if-match") or "").encode(),
        (headers.get("if-none-match") or "").encode(),
        orjson.dumps(fields, default=str, option=orjson.OPT_SORT_KEYS),
    )
    path = request.url.path
    return Demands(
        match=_tags(request, "If-Match"),
        none_match=_tags(request, "If-None-Match"),
        once=Once.of(headers.get("idempotency-key"), who.subject, request.method, path, *content),
    )


def _tags(request: Request, header: str) -> Tags | None:
    return Tags.parse(header, request.headers.get(header))


def _single(request: Request) -> dict[str, str]:
    """The query's parameters. Raises BadInputError where one is given twice."""
    names = [name for name, _ in request.query_params.multi_items()]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise BadInputError(f"{twice[0]} is given twice")
    return dict(request.query_params)


def _first(query: Mapping[str, str]) -> int:
    text = query.get("first", str(DEFAULT_FIRST))
    if not text.isascii() or not text.isdigit() or not 1 <= int(text[:9]) <= MAX_FIRST or len(text) > 9:
        raise BadInputError(f"first must be between 1 and {MAX_FIRST}, not {text[:20]!r}")
    return int(text)


def _answer(answer: Answer) -> Response:
    headers = {name: value for name, value in answer.headers.items() if name != "X-Sealed"}
    return Response(
        answer.body, answer.status, headers, media_type="application/json" if answer.body else None
    )


def _json(body: Mapping[str, Any], headers: dict[str, str] | None = None) -> Response:
    return Response(orjson.dumps(body), media_type="application/json", headers=headers)
