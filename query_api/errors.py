"""The ways in which a question can fail, and how each is told to the client (RFC 9457 problem details)."""

from __future__ import annotations

from collections.abc import Sequence
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

    def details(self) -> dict[str, Any]:
        """Further members of the problem."""
        return {}


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


class ForbiddenError(ApiError):
    """Whoever asks may not do this."""

    status = 403
    code = "FORBIDDEN"
    title = "Not allowed"


class AnswerErasedError(ApiError):
    """A repeated request whose answer held personal data that nobody can read any more."""

    status = 410
    code = "ANSWER_ERASED"
    title = "The answer is gone"


class PreconditionFailedError(ApiError):
    status = 412
    code = "PRECONDITION_FAILED"
    title = "It is not in the state that the request demands"


class InvalidBodyError(ApiError):
    """Fields that are not valid; `faults` are pairs of a JSON pointer and what is wrong there."""

    status = 422
    code = "INVALID_BODY"
    title = "The body is not valid"

    def __init__(self, faults: Sequence[tuple[str, str]]) -> None:
        super().__init__(
            "; ".join(f"{pointer.removeprefix('/') or 'body'}: {text}" for pointer, text in faults)
        )
        self.faults = tuple(faults)

    def details(self) -> dict[str, Any]:
        return {"errors": [{"pointer": pointer, "detail": text} for pointer, text in self.faults]}


class KeyReusedError(ApiError):
    """An Idempotency-Key that belongs to another request."""

    status = 422
    code = "IDEMPOTENCY_KEY_REUSED"
    title = "The Idempotency-Key belongs to another request"


class PreconditionRequiredError(ApiError):
    status = 428
    code = "PRECONDITION_REQUIRED"
    title = "The request must be conditional"


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


class OutcomeUnknownError(ApiError):
    """The store went away during the commit: the change was made, or it was not."""

    status = 503
    code = "OUTCOME_UNKNOWN"
    title = "It is not known whether the change was made; GET it, or repeat it with its Idempotency-Key"
    retry_after_s = 1


class KeysMissingError(ApiError):
    """Personal data can be neither read nor written without the installation's secrets."""

    status = 503
    code = "KEYS_MISSING"
    title = "The keys of personal data are not there"


class UpstreamUnavailableError(ApiError):
    """Another service of the platform does not answer."""

    status = 503
    code = "UPSTREAM_UNAVAILABLE"
    title = "A service behind this API is not available"
    retry_after_s = 1


def problem(error: ApiError, trace_id: str, **extra: Any) -> dict[str, Any]:
    """The body of an `application/problem+json` answer."""
    more = {**error.details(), **extra}
    return problem_body(error.status, error.title, str(error), trace_id=trace_id, code=error.code, **more)


def problem_body(status: int, title: str, detail: str, **extra: Any) -> dict[str, Any]:
    return {"type": "about:blank", "title": title, "status": status, "detail": detail, **extra}
