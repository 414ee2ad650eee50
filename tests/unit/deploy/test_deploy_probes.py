from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from deploy.local import probes
from deploy.local.program import Health


class FakeService(ThreadingHTTPServer):
    """Answers /ready and /stats with what the test sets."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.answers: dict[str, tuple[int, Any]] = {}

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class _Handler(BaseHTTPRequestHandler):
    server: FakeService

    def do_GET(self) -> None:
        code, body = self.server.answers.get(self.path, (404, {}))
        self.send_response(code)
        self.end_headers()
        self.wfile.write(json.dumps(body).encode())

    def log_message(self, format: str, *args: Any) -> None:
        pass


@pytest.fixture
def service() -> Iterator[FakeService]:
    with FakeService() as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def test_ready_service_reports_its_lag(service: FakeService) -> None:
    service.answers = {"/ready": (200, {}), "/stats": (200, {"state": "ready", "lag": 12})}
    assert probes.service(service.url) == Health("ready", lag=12)


def test_service_that_is_not_ready_gives_its_reason(service: FakeService) -> None:
    service.answers = {
        "/ready": (503, {"reason": "no tables"}),
        "/stats": (200, {"state": "starting", "lag": None}),
    }
    assert probes.service(service.url) == Health("starting", "no tables")


def test_service_in_trouble_is_degraded_with_its_lag(service: FakeService) -> None:
    service.answers = {"/ready": (503, {"reason": "kafka"}), "/stats": (200, {"state": "degraded", "lag": 5})}
    assert probes.service(service.url) == Health("degraded", "kafka", 5)


def test_service_without_stats_is_ready_when_it_says_so(service: FakeService) -> None:
    service.answers = {"/ready": (200, {})}
    assert probes.service(service.url) == Health("ready")


def test_service_that_does_not_listen_is_starting() -> None:
    assert probes.service("http://127.0.0.1:1").state == "starting"
    assert probes.listening(1).state == "starting"
    assert probes.redis(1, "x").state == "starting"
