"""The ways in which a question can fail, and how each is told to the client (RFC 9457 problem details)."""

from __future__ import annotations

from typing import Any

PROBLEM_JSON = "application/problem+json"


class ApiError(Exception):
    """A failure that the client may read. Everything else is masked behind a trace id.

    `status` is the HTTP status where the whole answer fails; `code` is for programs.
    """

    status = 400
    code = "BAD_REQUEST"
    title = "The request cannot be answered as it is"
    retry_after_s: int | None = None


class BadInputError(ApiError):
    """An argument that no data could satisfy."""

    code = "BAD_INPUT"


class NotFoundError(ApiError):
    """Nothing has this id."""

    status = 404
    code = "NOT_FOUND"
    title = "There is no such thing"


class ConflictError(ApiError):
    """What is asked for cannot be done in the present state."""

    status = 409
    code = "CONFLICT"
    title = "The request conflicts with the present state"


class BodyTooLargeError(ApiError):
    """More bytes than a request may have."""

    status = 413
    code = "BODY_TOO_LARGE"
    title = "The request is too large"


class UnsupportedMediaError(ApiError):
    """A body in a format that this API does not read."""

    status = 415
    code = "UNSUPPORTED_MEDIA_TYPE"
    title = "The request's format is not supported"


class TooMuchError(ApiError):
    """The answer would be larger, or take longer, than the API allows."""

    status = 422
    code = "TOO_MUCH"
    title = "The answer would be too large"


class TooSlowError(ApiError):
    """A subscription whose client does not keep up and must not miss anything unknowingly."""

    status = 429
    code = "TOO_SLOW"
    title = "The client does not keep up"


class StoreUnavailableError(ApiError):
    """Postgres does not answer, or its schema is not there yet."""

    status = 503
    code = "STORE_UNAVAILABLE"
    title = "The warehouse is not available"
    retry_after_s = 1


class UpstreamUnavailableError(ApiError):
    """Another service of the platform does not answer."""

    status = 503
    code = "UPSTREAM_UNAVAILABLE"
    title = "A service behind this API is not available"
    retry_after_s = 1


def problem(error: ApiError, trace_id: str, **extra: Any) -> dict[str, Any]:
    """The body of an `application/problem+json` answer."""
    return problem_body(error.status, error.title, str(error), trace_id=trace_id, code=error.code, **extra)


def problem_body(status: int, title: str, detail: str, **extra: Any) -> dict[str, Any]:
    return {"type": "about:blank", "title": title, "status": status, "detail": detail, **extra}
