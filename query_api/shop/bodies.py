"""From a request's bytes to checked fields; every fault is told with a JSON pointer to its place."""

from __future__ import annotations

import json
from collections.abc import Mapping
from decimal import Decimal
from typing import Any, TypeVar

from pydantic import ValidationError
from starlette.requests import ClientDisconnect, Request

from query_api.errors import BadInputError, BodyTooLargeError, InvalidBodyError, UnsupportedMediaError
from query_api.shop.models import Body

BodyT = TypeVar("BodyT", bound=Body)
_JSON = "application/json"


async def receive(request: Request, max_bytes: int, *kinds: str) -> dict[str, Any]:
    """The body's JSON object, its numbers exact.

    Raises UnsupportedMediaError, BodyTooLargeError or BadInputError.
    """
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind not in (_JSON, *kinds):
        raise UnsupportedMediaError(f"send the body as Content-Type: {kinds[0] if kinds else _JSON}")
    body = bytearray()
    try:
        async for chunk in request.stream():
            body += chunk
            if len(body) > max_bytes:
                raise BodyTooLargeError(f"the body has more than {max_bytes} bytes")
    except ClientDisconnect:
        raise BadInputError("the client went away before its request was complete") from None
    return parsed(bytes(body))


def parsed(body: bytes) -> dict[str, Any]:
    """Raises BadInputError; a name that stands twice is refused, for readers disagree about which counts."""
    try:
        fields = json.loads(
            body.decode("utf-8"),
            parse_float=Decimal,
            parse_constant=_refuse_constant,
            object_pairs_hook=_unique,
        )
    except (ValueError, RecursionError) as error:
        raise BadInputError(f"the body is not JSON: {error}") from None
    if not isinstance(fields, dict):
        raise BadInputError("the body must be a JSON object")
    return fields


def merge(old: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """JSON merge patch (RFC 7396) of flat objects: null takes a field away, so that its default holds."""
    merged = {**old, **changes}
    return {name: value for name, value in merged.items() if value is not None}


def validated(model: type[BodyT], fields: Mapping[str, Any]) -> BodyT:
    """Raises InvalidBodyError with every fault."""
    try:
        return model.model_validate(fields)
    except ValidationError as error:
        faults = [
            ("".join(f"/{_escaped(part)}" for part in fault["loc"]), _message(fault["msg"]))
            for fault in error.errors(include_url=False, include_input=False, include_context=False)
        ]
        raise InvalidBodyError(faults) from None


def _message(text: str) -> str:
    return text.removeprefix("Value error, ")


def _escaped(part: object) -> str:
    """RFC 6901."""
    return str(part).replace("~", "~0").replace("/", "~1")


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a name stands twice in one object")
    return found


def _refuse_constant(name: str) -> Any:
    raise ValueError(f"{name} is no JSON number")
