"""Micro over HTTP: events in as at ingest, good and bad out.

`http.server` and not ingest's application: it starts in a tenth of the time, and a producer's tests need no
more.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Mapping
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Final
from urllib.parse import parse_qs, unquote, urlsplit

import orjson
import polars as pl

from deploy.micro.chain import Chain, rows
from ingest_service.careful import NotJson
from ingest_service.json_body import TooManyItems
from ingest_service.model import Defaults
from ingest_service.pipeline import ItemTooLarge, outcomes

MAX_BODY: Final = 32 << 20
_EVENTS: Final = "/v1/events/sales"
_WEBHOOKS: Final = "/v1/webhooks/"
_LINES: Final = ("application/x-ndjson", "application/ndjson", "application/jsonl")
_FILTERS: Final = ("event_id", "source_system", "invoice_no", "reason", "load_id")

Query = Mapping[str, str]


class Refused(Exception):  # noqa: N818 - an answer, not a fault
    """A request that cannot be answered; told as a problem (RFC 9457)."""

    def __init__(self, status: int, detail: str) -> None:
        super().__init__(detail)
        self.status = status


class Micro:
    """A server on a thread of its own. Port 0 takes a free one; `url` has it."""

    def __init__(self, host: str = "127.0.0.1", port: int = 0) -> None:
        """Raises OSError where the port is taken."""
        self.chain = Chain()
        self._server = _Server((host, port), partial(_Handler, Doors(self.chain)))
        self._thread = threading.Thread(target=self._server.serve_forever, name="micro", daemon=True)
        self.url = f"http://{host}:{self._server.server_address[1]}"

    def start(self) -> Micro:
        self._thread.start()
        return self

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def good(self, **wanted: str) -> list[dict[str, Any]]:
        """Enriched sales whose columns have the values given."""
        return rows(_matching(self.chain.good(), wanted))

    def bad(self, **wanted: str) -> list[dict[str, Any]]:
        """Quarantined items whose columns have the values given."""
        return rows(_matching(self.chain.bad(), wanted))

    def reset(self) -> None:
        self.chain.reset()


class Doors:
    """What each path does; bytes in, JSON out."""

    def __init__(self, chain: Chain) -> None:
        self._chain = chain

    def get(self, path: str, query: Query) -> tuple[int, Any]:
        read: dict[str, Callable[[], Any]] = {
            "/health": lambda: {"status": "alive"},
            "/ready": lambda: {"state": "ready", "reason": None},
            "/micro/good": lambda: {"items": rows(_matching(self._chain.good(), query))},
            "/micro/bad": lambda: {"items": rows(_matching(self._chain.bad(), query))},
            "/micro/all": self._counts,
            "/micro/reset": self._reset,
        }
        if path not in read:
            raise Refused(404, f"no such path; there are {_EVENTS}, {_WEBHOOKS}SOURCE, {', '.join(read)}")
        return 200, read[path]()

    def post(self, path: str, query: Query, kind: str, body: bytes) -> tuple[int, Any]:
        if path == "/micro/reset":
            return 200, self._reset()
        defaults = Defaults(query.get("source"), query.get("currency"))
        if path.startswith(_WEBHOOKS):
            defaults = Defaults(
                unquote(path.removeprefix(_WEBHOOKS)), query.get("currency"), fixed_source=True
            )
        elif path != _EVENTS:
            raise Refused(404, f"events are posted to {_EVENTS} or {_WEBHOOKS}SOURCE")
        if not body or body.isspace():
            raise Refused(400, "the body is empty; send a JSON object, an array, or NDJSON")
        lines = kind.partition(";")[0].strip().lower() in _LINES
        try:
            accepted = self._chain.post(body, lines=lines, load_id=query.get("load_id"), defaults=defaults)
        except NotJson as error:
            raise Refused(400, f"the body is no JSON: {error}") from error
        except (TooManyItems, ItemTooLarge) as error:
            raise Refused(413, str(error) or "the body holds too many items") from error
        return 202, {
            "load_id": query.get("load_id"),
            "accepted": accepted.sales.height,
            "quarantined": accepted.refused.height,
            "items": outcomes(accepted).to_dicts() if query.get("items") != "false" else [],
        }

    def _counts(self) -> dict[str, int]:
        return {"good": self._chain.good().height, "bad": self._chain.bad().height}

    def _reset(self) -> dict[str, int]:
        self._chain.reset()
        return self._counts()


def _matching(frame: pl.DataFrame, wanted: Query) -> pl.DataFrame:
    if unknown := [name for name in wanted if name not in _FILTERS or name not in frame.columns]:
        known = ", ".join(name for name in _FILTERS if name in frame.columns)
        raise Refused(400, f"cannot filter by {', '.join(unknown)}; there are {known}")
    return frame.filter(pl.lit(True).and_(*(pl.col(name) == value for name, value in wanted.items())))


class _Server(ThreadingHTTPServer):
    daemon_threads = True


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    timeout = 30.0  # an idle client must not hold a thread for ever

    def __init__(self, doors: Doors, *connection: Any) -> None:
        self._doors = doors
        super().__init__(*connection)

    def do_GET(self) -> None:
        self._answer(self._doors.get)

    def do_POST(self) -> None:
        self._answer(
            lambda path, query: self._doors.post(
                path, query, self.headers.get("Content-Type", ""), self._body()
            )
        )

    def _body(self) -> bytes:
        length = self.headers.get("Content-Length", "")
        if not length.isdecimal() or int(length) > MAX_BODY:
            self.close_connection = True  # what was not read would pass for the next request
            raise Refused(
                413 if length.isdecimal() else 411, f"send a Content-Length of up to {MAX_BODY} bytes"
            )
        return self.rfile.read(int(length))

    def _answer(self, ask: Callable[[str, Query], tuple[int, Any]]) -> None:
        address = urlsplit(self.path)
        query = {name: values[-1] for name, values in parse_qs(address.query).items()}
        try:
            status, content = ask(address.path, query)
            kind = "application/json"
        except Refused as refused:
            status, kind = refused.status, "application/problem+json"
            content = {"type": "about:blank", "status": status, "detail": str(refused)}
        body = orjson.dumps(content, default=str)
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        """The answers say it all."""


def ready_line(micro: Micro) -> str:
    """One JSON line for who started the process."""
    return json.dumps({"url": micro.url, "good": f"{micro.url}/micro/good", "bad": f"{micro.url}/micro/bad"})
