"""The registry client tells "unknown" from "cannot tell", and asks once."""

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from schemas.registry import (
    UNKNOWN_TTL_SECONDS,
    RegistryClient,
    RegistryUnavailable,
    SchemaRejected,
    UnknownSchema,
)

Answer = tuple[int, object]
NOT_FOUND: Answer = (404, {"error_code": 40403, "message": "Schema not found"})


class Registry:
    """Answers of a registry by "METHOD path", and the requests that it saw."""

    def __init__(self) -> None:
        self.answers: dict[str, Answer] = {}
        self.seen: list[str] = []
        self.bodies: list[object] = []
        registry = self

        class Handler(BaseHTTPRequestHandler):
            def _answer(self) -> None:
                request = f"{self.command} {self.path}"
                registry.seen.append(request)
                if length := int(self.headers.get("Content-Length") or 0):
                    registry.bodies.append(json.loads(self.rfile.read(length)))
                status, body = registry.answers.get(request, (404, "no such page"))
                payload = body.encode() if isinstance(body, str) else json.dumps(body).encode()
                self.send_response(status)
                self.send_header("Content-Length", str(len(payload)))
                self.end_headers()
                self.wfile.write(payload)

            do_GET = do_POST = do_PUT = _answer  # noqa: N815

            def log_message(self, *_arguments: object) -> None:
                """Quiet."""

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/api"


@pytest.fixture
def registry() -> Iterator[Registry]:
    fake = Registry()
    thread = threading.Thread(target=fake.server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    yield fake
    fake.server.shutdown()
    fake.server.server_close()
    thread.join()


def test_schema_is_asked_for_once(registry: Registry) -> None:
    registry.answers["GET /api/schemas/ids/7"] = (200, {"schema": '"string"'})
    client = RegistryClient(registry.url + "/")
    assert [client.by_id(7), client.by_id(7)] == ['"string"', '"string"']
    assert registry.seen == ["GET /api/schemas/ids/7"]


def test_unknown_id_is_asked_for_again_only_after_a_while(registry: Registry) -> None:
    now = [100.0]
    registry.answers["GET /api/schemas/ids/7"] = NOT_FOUND
    client = RegistryClient(registry.url, clock=lambda: now[0])
    for _ in range(3):
        with pytest.raises(UnknownSchema):
            client.by_id(7)
    assert len(registry.seen) == 1
    registry.answers["GET /api/schemas/ids/7"] = (200, {"schema": '"string"'})
    now[0] += UNKNOWN_TTL_SECONDS
    assert client.by_id(7) == '"string"'


@pytest.mark.parametrize(
    "answer",
    [
        (404, "no such page"),
        (404, {"error_code": 404, "message": "HTTP 404 Not Found"}),
        (404, {"message": "no code"}),
        (404, [40403]),
        (500, {"error_code": 50001, "message": "storage"}),
        (503, ""),
        (401, {"error_code": 401, "message": "who are you"}),
        (200, "<html>"),
        (200, {"something": "else"}),
        (200, {"schema": 5}),
    ],
)
def test_anything_but_the_registrys_own_not_found_is_an_outage(registry: Registry, answer: Answer) -> None:
    registry.answers["GET /api/schemas/ids/7"] = answer
    client = RegistryClient(registry.url)
    with pytest.raises(RegistryUnavailable):
        client.by_id(7)
    registry.answers["GET /api/schemas/ids/7"] = (200, {"schema": '"string"'})
    assert client.by_id(7) == '"string"'


def test_registry_that_is_down_is_an_outage(registry: Registry) -> None:
    registry.server.shutdown()
    registry.server.server_close()
    with pytest.raises(RegistryUnavailable):
        RegistryClient(registry.url, timeout_seconds=1).by_id(7)


@pytest.mark.parametrize("schema_id", [0, -1, 2**31])
def test_impossible_id_is_unknown_without_a_request(registry: Registry, schema_id: int) -> None:
    with pytest.raises(UnknownSchema):
        RegistryClient(registry.url).by_id(schema_id)
    assert registry.seen == []


def test_schema_of_another_kind_is_unknown(registry: Registry) -> None:
    registry.answers["GET /api/schemas/ids/7"] = (200, {"schema": "{}", "schemaType": "JSON"})
    with pytest.raises(UnknownSchema, match="is JSON, not Avro"):
        RegistryClient(registry.url).by_id(7)


def test_register_gives_the_id_and_quotes_the_subject(registry: Registry) -> None:
    registry.answers["POST /api/subjects/a%2Fb-value/versions"] = (200, {"id": 3})
    assert RegistryClient(registry.url).register("a/b-value", '"string"') == 3
    assert registry.bodies == [{"schema": '"string"'}]


@pytest.mark.parametrize("status", [409, 422])
def test_refused_schema_is_told_from_an_outage(registry: Registry, status: int) -> None:
    registry.answers["POST /api/subjects/s/versions"] = (
        status,
        {"error_code": status, "message": "incompatible"},
    )
    with pytest.raises(SchemaRejected, match="incompatible"):
        RegistryClient(registry.url).register("s", '"string"')


def test_versions_of_a_subject_come_oldest_first(registry: Registry) -> None:
    registry.answers["GET /api/subjects/s/versions"] = (200, [2, 1])
    registry.answers["GET /api/subjects/s/versions/1"] = (200, {"id": 9, "schema": "one"})
    registry.answers["GET /api/subjects/s/versions/2"] = (200, {"id": 4, "schema": "two"})
    assert list(RegistryClient(registry.url).ids("s").items()) == [(9, "one"), (4, "two")]
    registry.answers["GET /api/subjects/t/versions"] = (404, {"error_code": 40401, "message": "no subject"})
    assert RegistryClient(registry.url).ids("t") == {}


def test_compatibility_is_set_and_asked(registry: Registry) -> None:
    registry.answers["PUT /api/config/s"] = (200, {"compatibility": "BACKWARD"})
    registry.answers["POST /api/compatibility/subjects/s/versions/latest"] = (200, {"is_compatible": False})
    registry.answers["POST /api/compatibility/subjects/t/versions/latest"] = (
        404,
        {"error_code": 40401, "message": "no subject"},
    )
    client = RegistryClient(registry.url)
    client.set_compatibility("s", "BACKWARD")
    assert registry.bodies == [{"compatibility": "BACKWARD"}]
    assert not client.check_compatible("s", '"string"')
    assert client.check_compatible("t", '"string"')


@pytest.mark.parametrize("url", ["file:///etc/passwd", "localhost:8081", ""])
def test_only_http_is_a_registry(url: str) -> None:
    with pytest.raises(ValueError, match="http"):
        RegistryClient(url)
