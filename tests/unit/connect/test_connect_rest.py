"""What Connect's REST API answers is told apart: a refusal, or an answer that comes later."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from deploy.connect.keeper import slot_trouble
from deploy.connect.reconcile import Connector
from deploy.connect.rest import Connect, ConnectRefusedError, ConnectUnavailableError
from deploy.connect.source import Slot

SHOP = Connector("shop", {"tasks.max": "1"})


class Script(BaseHTTPRequestHandler):
    """Answers every request with what the test put into `answer`, and keeps what was asked."""

    answer: tuple[int, object] = (200, {})
    asked: tuple[str, str, bytes] = ("", "", b"")

    def do_GET(self) -> None:
        length = int(self.headers.get("Content-Length") or 0)
        type(self).asked = (self.command, self.path, self.rfile.read(length))
        status, body = self.answer
        data = json.dumps(body).encode() if not isinstance(body, bytes) else body
        self.send_response(status)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    do_PUT = do_POST = do_GET  # noqa: N815 - the names that http.server calls

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def connect() -> Iterator[Connect]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Script)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield Connect(f"http://127.0.0.1:{server.server_address[1]}/")
    server.shutdown()
    thread.join()
    server.server_close()


def test_configuration_is_put_whole_under_the_connectors_name(connect: Connect) -> None:
    Script.answer = (201, {"name": "shop"})
    connect.configure(SHOP)
    method, path, body = Script.asked
    assert (method, path, json.loads(body)) == ("PUT", "/connectors/shop/config", {"tasks.max": "1"})


def test_only_what_failed_is_restarted(connect: Connect) -> None:
    Script.answer = (204, b"")
    connect.restart_failed("shop")
    assert Script.asked[:2] == ("POST", "/connectors/shop/restart?includeTasks=true&onlyFailed=true")


def test_bad_configuration_is_a_refusal_with_connects_own_words(connect: Connect) -> None:
    Script.answer = (400, {"error_code": 400, "message": "Missing required configuration topic.prefix"})
    with pytest.raises(ConnectRefusedError, match=r"Missing required configuration topic\.prefix"):
        connect.configure(SHOP)


@pytest.mark.parametrize("answer", [(409, {"message": "rebalance"}), (500, b"<html>"), (200, b"not json")])
def test_anything_else_may_succeed_later(connect: Connect, answer: tuple[int, object]) -> None:
    Script.answer = answer
    with pytest.raises(ConnectUnavailableError):
        connect.connectors()


def test_nobody_at_the_address_may_be_there_later() -> None:
    with pytest.raises(ConnectUnavailableError):
        Connect("http://127.0.0.1:1").connectors()


def test_connector_that_is_just_being_made_is_not_there_yet(connect: Connect) -> None:
    status = {"connector": {"state": "RUNNING"}, "tasks": [{"state": "FAILED", "trace": "x"}]}
    info = {"config": {"name": "shop", "tasks.max": "1"}}
    Script.answer = (200, {"shop": {"info": info, "status": status}, "new": {"info": info}})
    found = connect.connectors()
    assert list(found) == ["shop"]
    assert (dict(found["shop"].config), found["shop"].failed) == ({"tasks.max": "1"}, True)


@pytest.mark.parametrize(
    ("slot", "says"),
    [
        (None, "not made"),
        (Slot(False, "lost", None, None, None, None), "lost"),
        (Slot(False, "reserved", 1, 1, 1, 1), "nothing reads"),
        (Slot(True, "reserved", 1, 1, 1, 1), None),
    ],
)
def test_slot_that_is_not_in_order_is_told(slot: Slot | None, says: str | None) -> None:
    told = slot_trouble(slot)
    assert told is None if says is None else says in str(told)
