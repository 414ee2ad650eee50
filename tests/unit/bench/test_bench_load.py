"""The load: an open loop over HTTP."""

from __future__ import annotations

import asyncio
import json
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from bench.chain.http_client import Client
from bench.chain.load import Plan, send

WAIT_S = 1.0


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.bodies: list[bytes] = []
        self.arrived: list[float] = []


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        server = self.server
        assert isinstance(server, _Server)
        server.bodies.append(self.rfile.read(int(self.headers["Content-Length"])))
        server.arrived.append(time.time())
        if self.path.startswith("/v1/"):
            time.sleep(WAIT_S)
        status = 503 if self.path == "/refused" else 202
        self.send_response(status)
        self.send_header("Content-Length", "2")
        self.end_headers()
        self.wfile.write(b"{}")

    def log_message(self, format: str, *args: object) -> None:
        return None


@pytest.fixture
def server() -> Iterator[_Server]:
    with _Server() as running:
        threading.Thread(target=running.serve_forever, daemon=True).start()
        yield running
        running.shutdown()


def url(server: _Server) -> str:
    return f"http://127.0.0.1:{server.server_address[1]}"


def test_requests_leave_at_their_time_while_earlier_ones_wait_for_their_answer(server: _Server) -> None:
    plan = Plan(url(server), rate=500, seconds=2, tick_ms=20, begin_ms=time.time() * 1000 + 5_000)
    results = asyncio.run(send(plan))
    assert [status for _, _, status in results] == [202] * plan.ticks
    assert [intended for intended, _, _ in results] == [plan.intended_ms(t) for t in range(plan.ticks)]
    # One after the other they would take 100 s; each waits a second at the server.
    assert server.arrived[-1] - server.arrived[0] < 20.0
    assert all(answered - intended >= WAIT_S * 1000 for intended, answered, _ in results)
    sent = [json.loads(line) for body in server.bodies for line in body.splitlines()]
    assert len({(line["invoice_no"], line["line_no"]) for line in sent}) == 1_000


def test_what_is_refused_is_told_and_a_connection_is_used_again(server: _Server) -> None:
    async def twice(path: str) -> list[int]:
        client = Client(url(server) + path, {"Content-Type": "text/plain"})
        try:
            return [await client.post(b"a"), await client.post(b"bc")]
        finally:
            client.close()

    assert asyncio.run(twice("/refused")) == [503, 503]
    assert asyncio.run(twice("/taken")) == [202, 202]
    assert server.bodies == [b"a", b"bc"] * 2


def test_a_server_that_is_gone_is_an_error_of_its_own_kind() -> None:
    async def post() -> None:
        await Client("http://127.0.0.1:1/", {}).post(b"a")

    with pytest.raises(OSError, match=r"refused|Connect call failed"):
        asyncio.run(post())
