"""Client of a schema registry with Confluent's HTTP API: schemas by id, subjects, compatibility.

The one question that matters on the hot path is "is this id unknown, or can I not tell?". Only the
registry's own answer *schema not found* means unknown. A timeout, a proxy's 404 or an error page means
unavailable: the caller pauses and quarantines nothing.
"""

import http.client
import threading
import time
import urllib.error
import urllib.parse
import urllib.request
from collections import OrderedDict
from collections.abc import Callable
from typing import Any, Final, TypeVar

import orjson

_T = TypeVar("_T")

SCHEMA_NOT_FOUND: Final = 40403
SUBJECT_NOT_FOUND: Final = 40401
VERSION_NOT_FOUND: Final = 40402
UNKNOWN_TTL_SECONDS: Final = 30.0
UNKNOWN_KEPT: Final = 10_000
MAX_ID: Final = 2**31 - 1
MAX_ANSWER_BYTES: Final = 4 << 20


class RegistryError(Exception):
    """Any trouble with the registry."""


class UnknownSchema(RegistryError):  # noqa: N818 - it is an answer, not a fault
    """The registry answered that it holds no Avro schema with this id."""


class RegistryUnavailable(RegistryError):  # noqa: N818
    """The registry gave no usable answer; the same request may succeed later."""


class SchemaRejected(RegistryError):  # noqa: N818
    """The registry refused a schema: not valid, or not compatible with the earlier versions."""


class RegistryClient:
    """Thread-safe; every answer about an id is cached, for an id never changes its schema.

    An unknown id is remembered for :data:`UNKNOWN_TTL_SECONDS`, so that a flood of records with a bad id
    does not become a flood of requests.
    """

    def __init__(
        self, url: str, *, timeout_seconds: float = 5.0, clock: Callable[[], float] = time.monotonic
    ) -> None:
        if not url.startswith(("http://", "https://")):
            raise ValueError(f"the registry's URL must begin with http:// or https://, not {url!r}")
        self._url = url.rstrip("/")
        self._timeout = timeout_seconds
        self._clock = clock
        self._lock = threading.Lock()
        self._known: dict[int, str] = {}
        self._unknown: OrderedDict[int, float] = OrderedDict()

    def by_id(self, schema_id: int) -> str:
        """Schema text of an id. Raises :class:`UnknownSchema` or :class:`RegistryUnavailable`."""
        if not 0 < schema_id <= MAX_ID:
            raise UnknownSchema(f"{schema_id} cannot be a schema id")
        with self._lock:
            if schema_id in self._known:
                return self._known[schema_id]
            if self._unknown.get(schema_id, 0.0) > self._clock():
                raise UnknownSchema(f"the registry knows no schema {schema_id}")
        try:
            answer = self._call("GET", f"/schemas/ids/{schema_id}")
        except _Refused as refusal:
            if refusal.code != SCHEMA_NOT_FOUND:
                raise RegistryUnavailable(str(refusal)) from refusal
            self._remember_unknown(schema_id)
            raise UnknownSchema(f"the registry knows no schema {schema_id}") from refusal
        if answer.get("schemaType", "AVRO") != "AVRO":
            raise UnknownSchema(f"schema {schema_id} is {answer['schemaType']}, not Avro")
        text = _field(answer, "schema", str)
        with self._lock:
            self._known[schema_id] = text
        return text

    def register(self, subject: str, schema: str) -> int:
        """Id of the schema under the subject, registering it if it is new.

        Raises :class:`SchemaRejected` where it is invalid or incompatible.
        """
        answer = self._ask("POST", f"/subjects/{_quoted(subject)}/versions", {"schema": schema})
        return _field(answer, "id", int)

    def ids(self, subject: str) -> dict[int, str]:
        """Every version of a subject as schema id -> schema text, oldest first; empty if unknown."""
        path = f"/subjects/{_quoted(subject)}/versions"
        try:
            versions = self._call("GET", path)
        except _Refused as refusal:
            if refusal.code == SUBJECT_NOT_FOUND:
                return {}
            raise RegistryUnavailable(str(refusal)) from refusal
        found = {}
        for version in sorted(versions):
            answer = self._ask("GET", f"{path}/{int(version)}")
            found[_field(answer, "id", int)] = _field(answer, "schema", str)
        return found

    def set_compatibility(self, subject: str, level: str) -> None:
        """Set the subject's compatibility level, e.g. ``BACKWARD``; the subject need not exist yet."""
        self._ask("PUT", f"/config/{_quoted(subject)}", {"compatibility": level})

    def check_compatible(self, subject: str, schema: str) -> bool:
        """Whether the subject would accept the schema as its next version; true for a new subject."""
        path = f"/compatibility/subjects/{_quoted(subject)}/versions/latest"
        try:
            answer = self._call("POST", path, {"schema": schema})
        except _Refused as refusal:
            if refusal.code in (SUBJECT_NOT_FOUND, VERSION_NOT_FOUND):
                return True
            raise _rejection(refusal) from refusal
        return _field(answer, "is_compatible", bool)

    def _ask(self, method: str, path: str, body: dict[str, Any] | None = None) -> Any:
        try:
            return self._call(method, path, body)
        except _Refused as refusal:
            raise _rejection(refusal) from refusal

    def _call(self, method: str, path: str, body: dict[str, Any] | None = None) -> Any:
        """Decoded answer; :class:`_Refused` with the registry's error code, or RegistryUnavailable."""
        data = None if body is None else orjson.dumps(body)
        request = urllib.request.Request(self._url + path, data=data, method=method)  # noqa: S310 - http only
        request.add_header("Content-Type", "application/vnd.schemaregistry.v1+json")
        request.add_header("Accept", "application/vnd.schemaregistry.v1+json, application/json")
        try:
            with urllib.request.urlopen(request, timeout=self._timeout) as response:  # noqa: S310
                return _decoded(response.read(MAX_ANSWER_BYTES))
        except urllib.error.HTTPError as error:
            raise _Refused.from_http(error) from error
        except (OSError, http.client.HTTPException) as error:
            raise RegistryUnavailable(f"{method} {path}: {error}") from error

    def _remember_unknown(self, schema_id: int) -> None:
        with self._lock:
            self._unknown[schema_id] = self._clock() + UNKNOWN_TTL_SECONDS
            self._unknown.move_to_end(schema_id)
            while len(self._unknown) > UNKNOWN_KEPT:
                self._unknown.popitem(last=False)


class _Refused(Exception):  # noqa: N818
    """An HTTP error with the registry's own error code (0 where the body holds none)."""

    def __init__(self, status: int, code: int, message: str) -> None:
        super().__init__(f"HTTP {status}, error {code}: {message}")
        self.status = status
        self.code = code

    @classmethod
    def from_http(cls, error: urllib.error.HTTPError) -> "_Refused":
        try:
            body = orjson.loads(error.read(MAX_ANSWER_BYTES))
            return cls(error.code, int(body["error_code"]), str(body.get("message", "")))
        except (OSError, ValueError, KeyError, TypeError, http.client.HTTPException):
            return cls(error.code, 0, error.reason or "")


def _rejection(refusal: _Refused) -> RegistryError:
    """409 and 422 judge the schema; anything else says nothing about it."""
    if refusal.status in (409, 422):
        return SchemaRejected(str(refusal))
    return RegistryUnavailable(str(refusal))


def _decoded(body: bytes) -> Any:
    try:
        return orjson.loads(body)
    except ValueError as error:
        raise RegistryUnavailable("the answer is no JSON") from error


def _field(answer: Any, name: str, kind: type[_T]) -> _T:
    value = answer.get(name) if isinstance(answer, dict) else None
    if not isinstance(value, kind):
        raise RegistryUnavailable(f"the answer has no {kind.__name__} {name!r}")
    return value


def _quoted(subject: str) -> str:
    return urllib.parse.quote(subject, safe="")
