"""Logs as JSON lines, and the small HTTP server of processes that have no web framework."""

from __future__ import annotations

import json
import logging
import sys
import threading
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, TextIO

from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest

from streamkit.stats import StageStats

__all__ = [
    "METRICS_CONTENT_TYPE",
    "JsonFormatter",
    "StageServer",
    "StageStats",
    "configure_logging",
    "render_metrics",
]

METRICS_CONTENT_TYPE = CONTENT_TYPE_LATEST

Answer = tuple[int, str, bytes]
"""Status, content type and body."""
Route = Callable[[], Answer]
Action = Callable[[bytes], Answer]
"""Of a POST: takes the body."""
_MAX_BODY = 64 * 1024

_STANDARD_ATTRIBUTES = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}


class JsonFormatter(logging.Formatter):
    """One JSON object a line: ts, level, service, logger, message, the `extra` fields, and the traceback."""

    def __init__(self, service: str) -> None:
        super().__init__()
        self._service = service

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, Any] = {
            "ts": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "service": self._service,
            "logger": record.name,
            "message": record.getMessage(),
        }
        line |= {k: v for k, v in vars(record).items() if k not in _STANDARD_ATTRIBUTES and k not in line}
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        if record.stack_info:
            line["stack"] = record.stack_info
        return json.dumps(line, default=str, ensure_ascii=False)


def configure_logging(service: str, level: int = logging.INFO, stream: TextIO | None = None) -> None:
    """Send every log record of this process to standard error; uncaught exceptions too."""
    handler = logging.StreamHandler(stream or sys.stderr)
    handler.setFormatter(JsonFormatter(service))
    root = logging.getLogger()
    for old in list(root.handlers):
        root.removeHandler(old)
    root.addHandler(handler)
    root.setLevel(level)
    logging.captureWarnings(True)

    def log_uncaught(kind: type[BaseException], error: BaseException, trace: Any) -> None:
        if issubclass(kind, KeyboardInterrupt):
            sys.__excepthook__(kind, error, trace)
        else:
            root.critical("uncaught exception", exc_info=(kind, error, trace))

    sys.excepthook = log_uncaught
    threading.excepthook = lambda args: log_uncaught(
        args.exc_type, args.exc_value or args.exc_type(), args.exc_traceback
    )


def render_metrics(registry: CollectorRegistry) -> bytes:
    """The body of `/metrics` in Prometheus' text format."""
    return generate_latest(registry)


class StageServer:
    """Serves `/health`, `/ready`, `/metrics` and `/stats` from threads of its own.

    `routes` adds GET paths of a service, `actions` POST paths. Port 0 takes a free one; read it from `port`.
    """

    def __init__(
        self,
        stats: StageStats,
        host: str,
        port: int,
        routes: Mapping[str, Route] | None = None,
        actions: Mapping[str, Action] | None = None,
    ) -> None:
        table: dict[str, Route] = {
            "/health": lambda: json_answer(200, {"status": "alive"}),
            "/ready": lambda: _ready(stats),
            "/metrics": lambda: (200, METRICS_CONTENT_TYPE, render_metrics(stats.registry)),
            "/stats": lambda: json_answer(200, dict(stats.snapshot())),
            **(routes or {}),
        }
        self._server = _Server((host, port), _handler(table, actions or {}))
        self._thread = threading.Thread(target=self._server.serve_forever, name="stage-http", daemon=True)

    @property
    def port(self) -> int:
        return int(self._server.server_address[1])

    def start(self) -> StageServer:
        self._thread.start()
        return self

    def close(self) -> None:
        if self._thread.is_alive():
            self._server.shutdown()
            self._thread.join()
        self._server.server_close()

    def __enter__(self) -> StageServer:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.close()


class _Server(ThreadingHTTPServer):
    daemon_threads = True


def _ready(stats: StageStats) -> tuple[int, str, bytes]:
    ready, reason = stats.readiness()
    return json_answer(200 if ready else 503, {"state": stats.state, "reason": reason})


def json_answer(status: int, body: Mapping[str, Any]) -> Answer:
    """An answer of a route in JSON."""
    return status, "application/json", json.dumps(body).encode()


def _handler(table: Mapping[str, Route], actions: Mapping[str, Action]) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        timeout = 10.0  # an idle or slow client must not hold a thread for ever

        def do_GET(self) -> None:
            self._answer(table.get(self.path.split("?", 1)[0]))

        def do_POST(self) -> None:
            action = actions.get(self.path.split("?", 1)[0])
            length = self.headers.get("Content-Length", "")
            if not length.isdecimal() or int(length) > _MAX_BODY:
                self.close_connection = True  # what was not read would pass for the next request
                self._answer(lambda: json_answer(413, {"error": f"a body of up to {_MAX_BODY} bytes"}))
                return
            body = self.rfile.read(int(length))
            self._answer(None if action is None else lambda: action(body))

        def _answer(self, route: Route | None) -> None:
            try:
                status, kind, body = route() if route else json_answer(404, {"error": "no such path"})
            except Exception:
                logging.getLogger(__name__).exception("request failed", extra={"path": self.path})
                status, kind, body = json_answer(500, {"error": "internal error"})
            self.send_response(status)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: Any) -> None:
            """Probes every second are no news."""

    return Handler
