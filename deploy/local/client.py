"""What the verbs ask of a running platform, over the same HTTP doors that everyone uses."""

from __future__ import annotations

import getpass
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from deploy.local.errors import NOT_RUNNING, CommandError

_CHUNK = 1 << 20
_RETRY_S = 0.3


@dataclass(frozen=True)
class Endpoints:
    """Base URLs of one stack; `graphql` is the full one, `stages` has one by name, in the chain's order."""

    ingest: str
    query: str
    graphql: str
    ledger: str
    stages: Mapping[str, str]


class PlatformClient:
    """A service that restarts is waited for up to `patience_s`; what it refuses is raised at once."""

    def __init__(self, endpoints: Endpoints, *, token: str, patience_s: float = 60.0) -> None:
        self.endpoints = endpoints
        self._patience_s = patience_s
        self._http = httpx.Client(
            timeout=httpx.Timeout(60.0, connect=2.0), headers={"Authorization": f"Bearer {token}"}
        )

    def close(self) -> None:
        self._http.close()

    def post_sales(self, body: bytes, *, load_id: str, source: str) -> dict[str, Any]:
        """NDJSON in, ingest's answer out (without the list of items)."""
        return self._call(
            "POST",
            f"{self.endpoints.ingest}/v1/events/sales",
            params={"items": "false", "load_id": load_id, "source": source},
            content=body,
            headers={"Content-Type": "application/x-ndjson"},
        )

    def post_file(self, path: Path, *, load_id: str, source: str, currency: str) -> str:
        """Send a CSV file; the id of the job that reads it."""
        answer = self._call(
            "POST",
            f"{self.endpoints.ingest}/v1/files",
            params={"source": source, "load_id": load_id, "name": path.name, "currency": currency},
            file=path,
            headers={"Content-Type": "text/csv"},
        )
        return str(answer["job_id"])

    def job(self, job_id: str) -> dict[str, Any]:
        return self._call("GET", f"{self.endpoints.ingest}/v1/jobs/{job_id}")

    def ledger(self, load_id: str | None = None) -> dict[str, Any]:
        params = {"load_id": load_id} if load_id else {}
        return self._call("GET", f"{self.endpoints.ledger}/ledger", params=params)

    def latency(self, load_id: str | None = None) -> dict[str, Any]:
        """p50 and p99 in ms from acceptance, of the load where one is named: `warehouse`, `lake`, and `live`,
        the totals behind the subscription, always of the last minute."""
        params = {"load_id": load_id} if load_id else {}
        figures = self._call("GET", f"{self.endpoints.ledger}/latency", params=params)
        return figures | {"live": self._call("GET", f"{self.endpoints.query}/stats").get("live_ms")}

    def event(self, event_id: str) -> dict[str, Any] | None:
        """The event's life as the ledger tells it, or None."""
        try:
            return self._call("GET", f"{self.endpoints.ledger}/events/{event_id}")
        except CommandError as error:
            if isinstance(error.__cause__, httpx.HTTPStatusError) and (
                error.__cause__.response.status_code == httpx.codes.NOT_FOUND
            ):
                return None
            raise

    def quarantine(self, path: str, **params: Any) -> dict[str, Any]:
        """GET under the query API's `/api/v1/quarantine/`."""
        given = {name: value for name, value in params.items() if value is not None}
        return self._call("GET", f"{self.endpoints.query}/api/v1/quarantine/{path}", params=given)

    def replay(self, request: Mapping[str, Any]) -> dict[str, Any]:
        """Ask for a replay, or for its dry run."""
        return self._call(
            "POST",
            f"{self.endpoints.query}/api/v1/quarantine/replays",
            json=dict(request),
            headers={"X-Requested-By": f"command line, {getpass.getuser()}"},
        )

    def allow(self, reason: str | None) -> dict[str, Any]:
        """Let records that the guard holds back into quarantine; None means of any reason."""
        return self._call(
            "POST",
            f"{self.endpoints.query}/api/v1/quarantine/guard/allow",
            json={"reason": reason},
            headers={"X-Requested-By": f"command line, {getpass.getuser()}"},
        )

    def stages(self) -> dict[str, dict[str, Any]]:
        """`/stats` of every stage; one that does not answer now is left out."""
        found = {}
        for name, url in self.endpoints.stages.items():
            try:
                found[name] = self._http.get(f"{url}/stats", timeout=2.0).json()
            except (httpx.HTTPError, ValueError):
                continue
        return found

    def graphql(self, query: str, variables: Mapping[str, Any] | None = None) -> dict[str, Any]:
        body = {"query": query, "variables": dict(variables or {})}
        answer = self._call("POST", self.endpoints.graphql, json=body)
        if answer.get("errors"):
            raise CommandError(f"the query API refused: {answer['errors'][0]['message']}")
        data: dict[str, Any] = answer["data"]
        return data

    def _call(self, method: str, url: str, *, file: Path | None = None, **options: Any) -> dict[str, Any]:
        deadline = time.monotonic() + self._patience_s
        while True:
            try:
                if file is not None:
                    options["content"] = _chunks(file)
                response = self._http.request(method, url, **options)
                if response.status_code in (429, 502, 503) and time.monotonic() < deadline:
                    time.sleep(_retry_after_s(response))
                    continue
                response.raise_for_status()
                answer: dict[str, Any] = response.json()
                return answer
            except httpx.HTTPStatusError as error:
                raise CommandError(f"{method} {url}: {_problem(error.response)}") from error
            except httpx.TransportError as error:
                if time.monotonic() > deadline:
                    raise CommandError(
                        f"{url} does not answer ({error}): is the platform up? "
                        f"See `tillstream status` and `tillstream logs`",
                        NOT_RUNNING,
                    ) from error
                time.sleep(_RETRY_S)


def _chunks(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            yield chunk


def _retry_after_s(response: httpx.Response) -> float:
    text = response.headers.get("Retry-After", "")
    return min(float(text), 5.0) if text.isdecimal() else _RETRY_S


def _problem(response: httpx.Response) -> str:
    try:
        body = response.json()
    except ValueError:
        return f"{response.status_code} {response.text[:200]}"
    detail = body.get("detail") or body.get("title") or body
    return f"{response.status_code} {detail}"
