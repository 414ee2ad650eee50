from __future__ import annotations

import io
import json
import logging
import sys
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator

import pytest

from streamkit.telemetry import JsonFormatter, StageServer, StageStats, configure_logging


@pytest.fixture
def stream() -> Iterator[io.StringIO]:
    root = logging.getLogger()
    before = (list(root.handlers), root.level, sys.excepthook, threading.excepthook)
    stream = io.StringIO()
    configure_logging("quality", stream=stream)
    yield stream
    root.handlers[:], root.level, sys.excepthook, threading.excepthook = before
    logging.captureWarnings(False)


def test_a_log_line_is_one_json_object_with_its_extra_fields(stream: io.StringIO) -> None:
    logging.getLogger("a.b").info("read\n%d", 5, extra={"topic": "t", "odd": {1}})
    (line,) = stream.getvalue().splitlines()
    parsed = json.loads(line)
    assert parsed.pop("ts").endswith("+00:00")
    assert parsed == {
        "level": "info",
        "service": "quality",
        "logger": "a.b",
        "message": "read\n5",
        "topic": "t",
        "odd": "{1}",
    }


def test_an_exception_brings_its_traceback(stream: io.StringIO) -> None:
    try:
        raise ValueError("bad row")
    except ValueError:
        logging.getLogger().exception("failed")
    parsed = json.loads(stream.getvalue())
    assert "Traceback" in parsed["exception"]
    assert "ValueError: bad row" in parsed["exception"]


def test_an_extra_field_cannot_overwrite_a_standard_one() -> None:
    record = logging.makeLogRecord({"msg": "m", "levelname": "INFO", "service": "x", "level": "x"})
    parsed = json.loads(JsonFormatter("true").format(record))
    assert parsed["service"] == "true"
    assert parsed["level"] == "info"


def test_a_thread_that_dies_is_logged(stream: io.StringIO) -> None:
    thread = threading.Thread(target=lambda: 1 / 0)
    thread.start()
    thread.join()
    parsed = json.loads(stream.getvalue())
    assert parsed["level"] == "critical"
    assert "ZeroDivisionError" in parsed["exception"]


def get(server: StageServer, path: str) -> tuple[int, bytes]:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{server.port}{path}", timeout=5) as answer:
            return answer.status, answer.read()
    except urllib.error.HTTPError as error:
        return error.code, error.read()


def test_the_server_tells_health_readiness_metrics_and_stats() -> None:
    stats = StageStats("quality")

    def broken() -> tuple[int, str, bytes]:
        raise RuntimeError("broken route")

    routes = {"/extra": lambda: (200, "text/plain", b"more"), "/broken": broken}
    with StageServer(stats, "127.0.0.1", 0, routes) as server:
        assert get(server, "/health")[0] == 200
        status, body = get(server, "/ready")
        assert (status, json.loads(body)) == (503, {"state": "starting", "reason": "starting"})
        stats.ready()
        assert get(server, "/ready")[0] == 200
        stats.degraded("registry down")
        status, body = get(server, "/ready")
        assert (status, json.loads(body)) == (503, {"state": "degraded", "reason": "registry down"})
        assert json.loads(get(server, "/stats?x=1")[1]) == stats.snapshot()
        assert b"tillstream_records_total" in get(server, "/metrics")[1]
        assert get(server, "/extra") == (200, b"more")
        assert get(server, "/nowhere")[0] == 404
        assert get(server, "/broken")[0] == 500
