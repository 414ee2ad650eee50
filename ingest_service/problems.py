"""Errors as `application/problem+json` (RFC 9457), each saying what to do."""

from __future__ import annotations

from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

import orjson
from fastapi import Request, Response
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException

from ingest_service.metrics import Metrics


class Problem(Exception):  # noqa: N818 - an answer, not a fault
    """`extra`: further members of the answer."""

    def __init__(
        self, status: int, detail: str, *, headers: Mapping[str, str] | None = None, **extra: Any
    ) -> None:
        super().__init__(detail)
        self.status = status
        self.headers = dict(headers or {})
        self.extra = extra


def retry_later(detail: str, seconds: int) -> Problem:
    return Problem(503, detail, headers={"Retry-After": str(seconds)})


def not_json(body: bytes, message: str, position: int) -> Problem:
    """With the place as an editor shows it."""
    position = min(position, len(body))
    line = body.count(b"\n", 0, position) + 1
    column = position - (body.rfind(b"\n", 0, position) + 1) + 1
    hint = ""
    if "Extra data" in message:
        hint = "; one object per line is sent as Content-Type: application/x-ndjson"
    detail = f"the body is not JSON: {message} (line {line}, column {column}); nothing was accepted{hint}"
    return Problem(400, detail, position=position, line=line, column=column)


def answer(problem: Problem) -> Response:
    content = {
        "type": "about:blank",
        "title": HTTPStatus(problem.status).phrase,
        "status": problem.status,
        "detail": str(problem),
        **problem.extra,
    }
    headers = problem.headers
    return Response(orjson.dumps(content), problem.status, headers, "application/problem+json")


class Handlers:
    """Exception handlers of the application; every error is counted by status."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics

    async def problem(self, _: Request, error: Exception) -> Response:
        assert isinstance(error, Problem)
        return self._answer(error)

    async def invalid(self, _: Request, error: Exception) -> Response:
        assert isinstance(error, RequestValidationError)
        first = error.errors()[0]
        place = " ".join(str(part) for part in first["loc"])
        return self._answer(Problem(400, f"{place}: {first['msg']}"))

    async def http(self, _: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        return self._answer(Problem(error.status_code, str(error.detail), headers=error.headers))

    def _answer(self, problem: Problem) -> Response:
        self._metrics.refused.labels(str(problem.status)).inc()
        return answer(problem)
