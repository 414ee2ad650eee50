"""The way of a GraphQL question, from the request's bytes to the answer's.

    receive -> read -> execute (parse, cost, validate, resolve: see guard.py) -> tell errors -> encode

A step hands on a value or refuses with an `ApiError`, which `app.py` tells as problem+json.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import orjson
from graphql import GraphQLError
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from strawberry.schema.exceptions import CannotGetOperationTypeError, InvalidOperationTypeError
from strawberry.types import ExecutionResult

from query_api.context import Context, Parts
from query_api.errors import (
    PROBLEM_JSON,
    ApiError,
    BadInputError,
    BodyTooLargeError,
    StoreUnavailableError,
    UnsupportedMediaError,
    problem,
)
from query_api.graph import Schema
from query_api.guard import told, trace_id
from query_api.metrics import Metrics

GRAPHQL_JSON = "application/graphql-response+json"


@dataclass(frozen=True, slots=True)
class Question:
    """A well-formed GraphQL request."""

    query: str
    variables: dict[str, Any] | None
    operation_name: str | None


class Answerer:
    """Answers `POST /graphql`."""

    def __init__(self, schema: Schema, parts: Parts, metrics: Metrics, *, max_body_bytes: int) -> None:
        self._schema = schema
        self._parts = parts
        self._metrics = metrics
        self._max_body_bytes = max_body_bytes

    async def answer(self, request: Request) -> Response:
        body = await receive(request, self._max_body_bytes)
        question = read(body)
        result = await self._execute(question)
        return encode(result, request.headers.get("accept", ""))

    async def _execute(self, question: Question) -> ExecutionResult:
        try:
            result = await self._schema.execute(
                question.query,
                variable_values=question.variables,
                operation_name=question.operation_name,
                context_value=Context(self._parts),
            )
        except CannotGetOperationTypeError as error:
            raise BadInputError(error.as_http_error_reason()) from None
        except InvalidOperationTypeError as error:
            raise BadInputError(error.as_http_error_reason("POST")) from None
        if result.errors:
            result.errors = [told(error, self._metrics) for error in result.errors]
        return result


async def receive(request: Request, max_bytes: int) -> bytes:
    """The body. Raises `UnsupportedMediaError` or, before it is all in memory, `BodyTooLargeError`."""
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "application/json":
        raise UnsupportedMediaError("send GraphQL requests as Content-Type: application/json")
    body = bytearray()
    try:
        async for chunk in request.stream():
            body += chunk
            if len(body) > max_bytes:
                raise BodyTooLargeError(f"the body has more than {max_bytes} bytes")
    except ClientDisconnect:
        raise BadInputError("the client went away before its request was complete") from None
    return bytes(body)


def read(body: bytes) -> Question:
    """Raises `BadInputError`."""
    try:
        fields = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise BadInputError(f"the body is not JSON: {error}") from None
    if isinstance(fields, list):
        raise BadInputError("batches of GraphQL requests are not supported: send one object")
    if not isinstance(fields, dict):
        raise BadInputError("the body must be a JSON object with a `query`")
    query, variables, name = fields.get("query"), fields.get("variables"), fields.get("operationName")
    if not isinstance(query, str) or not query.strip():
        raise BadInputError("`query` must be a non-empty string")
    if variables is not None and not isinstance(variables, dict):
        raise BadInputError("`variables` must be an object")
    if name is not None and not isinstance(name, str):
        raise BadInputError("`operationName` must be a string")
    return Question(query, variables, name or None)


def encode(result: ExecutionResult, accept: str) -> Response:
    """200 with data and errors. 503 as problem+json, errors included, when Postgres was the reason: a
    client's or a gateway's retry then does the right thing. 400 for a refused document only where the
    client speaks the newer media type, as GraphQL over HTTP asks."""
    body: dict[str, Any] = {"data": result.data}
    if result.errors:
        body["errors"] = [error.formatted for error in result.errors]
        down = _store_unavailable(result.errors)
        if down is not None:
            return problem_response(down, **body)
    if result.extensions:
        body["extensions"] = result.extensions
    newer = GRAPHQL_JSON in accept
    refused = newer and result.data is None and not any(e.path for e in result.errors or [])
    return Response(
        orjson.dumps(body),
        status_code=400 if refused else 200,
        media_type=GRAPHQL_JSON if newer else "application/json",
    )


def problem_response(error: ApiError, **extra: Any) -> Response:
    """An `ApiError` as the whole answer."""
    headers = {} if error.retry_after_s is None else {"Retry-After": str(error.retry_after_s)}
    return Response(
        orjson.dumps(problem(error, trace_id(), **extra)),
        status_code=error.status,
        media_type=PROBLEM_JSON,
        headers=headers,
    )


def _store_unavailable(errors: list[GraphQLError]) -> StoreUnavailableError | None:
    causes = (error.original_error for error in errors)
    return next((cause for cause in causes if isinstance(cause, StoreUnavailableError)), None)
