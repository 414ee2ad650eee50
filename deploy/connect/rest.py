"""Connect's REST API. Blocking; call it from a thread."""

from __future__ import annotations

import http.client
import json
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Mapping
from typing import Any

from deploy.connect.reconcile import Connector, Observed

_TIMEOUT_S = 10.0


class ConnectUnavailableError(Exception):
    """No usable answer now; the same request may succeed later (a rebalance answers 409)."""


class ConnectRefusedError(Exception):
    """Connect read the request and says that it is wrong."""


class Connect:
    def __init__(self, url: str) -> None:
        if not url.startswith(("http://", "https://")):
            raise ValueError(f"Connect's URL must begin with http:// or https://, not {url!r}")
        self._url = url.rstrip("/")

    def connectors(self) -> dict[str, Observed]:
        """Every connector by name. Raises ConnectUnavailableError."""
        found = self._call("GET", "/connectors?expand=info&expand=status")
        return {
            name: Observed.of(entry) for name, entry in found.items() if entry.keys() >= {"info", "status"}
        }

    def configure(self, connector: Connector) -> None:
        """Make it, or change it. Raises ConnectRefusedError with Connect's reasons."""
        self._call("PUT", f"/connectors/{_quoted(connector.name)}/config", dict(connector.config))

    def restart_failed(self, name: str) -> None:
        """Start what FAILED of a connector and its tasks again (KIP-745)."""
        self._call("POST", f"/connectors/{_quoted(name)}/restart?includeTasks=true&onlyFailed=true")

    def _call(self, method: str, path: str, body: Mapping[str, str] | None = None) -> Any:
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self._url + path, data=data, method=method)  # noqa: S310 - http only
        request.add_header("Content-Type", "application/json")
        try:
            with urllib.request.urlopen(request, timeout=_TIMEOUT_S) as answer:  # noqa: S310
                return json.loads(answer.read() or b"null")
        except urllib.error.HTTPError as error:
            message = _message(error)
            if error.code in (400, 422):
                raise ConnectRefusedError(message) from error
            raise ConnectUnavailableError(f"HTTP {error.code}: {message}") from error
        except (OSError, ValueError, http.client.HTTPException) as error:
            raise ConnectUnavailableError(str(error)) from error


def _message(error: urllib.error.HTTPError) -> str:
    try:
        return str(json.loads(error.read())["message"])
    except (OSError, ValueError, KeyError, TypeError):
        return str(error.reason)


def _quoted(name: str) -> str:
    return urllib.parse.quote(name, safe="")
