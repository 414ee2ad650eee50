"""Readiness, asked of the process itself. Each returns; none raises."""

from __future__ import annotations

import json
import socket
import subprocess
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

from deploy.local.ports import HOST
from deploy.local.program import Health, State

_TIMEOUT_S = 2.0


def listening(port: int) -> Health:
    try:
        socket.create_connection((HOST, port), timeout=_TIMEOUT_S).close()
    except OSError:
        return Health("starting", f"nothing listens on port {port} yet")
    return Health("ready")


def http_ok(url: str) -> Health:
    try:
        with urllib.request.urlopen(url, timeout=_TIMEOUT_S):
            return Health("ready")
    except (OSError, ValueError) as error:
        return Health("starting", f"no answer: {getattr(error, 'reason', error)}")


def service(url: str) -> Health:
    """`/ready` and `/stats` of one of our own processes."""
    try:
        with urllib.request.urlopen(f"{url}/ready", timeout=_TIMEOUT_S):
            ready, reason = True, None
    except urllib.error.HTTPError as error:
        ready, reason = False, _reason(error.read())
    except (OSError, ValueError) as error:
        return Health("starting", f"no answer: {getattr(error, 'reason', error)}")
    stats = _json(f"{url}/stats")
    # `/ready` decides, being what callers wait for; `/stats` may have been asked a moment later.
    state: State = "ready" if ready else ("degraded" if stats.get("state") == "degraded" else "starting")
    lag = stats.get("lag")
    return Health(
        state,
        reason,
        lag if isinstance(lag, int) else None,
        *(_number(stats.get(name)) for name in ("lag_seconds", "p50_ms", "p99_ms")),
    )


def groups(url: str) -> list[dict[str, Any]]:
    """`/lag` of the lag exporter at `url`: every consumer group; empty where it does not answer."""
    found = _json(f"{url}/lag").get("groups")
    return [group for group in found if isinstance(group, dict)] if isinstance(found, list) else []


def redis(port: int, password: str) -> Health:
    """AUTH and PING in the Redis protocol."""
    try:
        with socket.create_connection((HOST, port), timeout=_TIMEOUT_S) as connection:
            connection.sendall(f"AUTH {password}\r\nPING\r\n".encode())
            answer = b""
            while answer.count(b"\n") < 2:
                chunk = connection.recv(256)
                if not chunk:
                    break
                answer += chunk
    except OSError as error:
        return Health("starting", str(error))
    return (
        Health("ready") if b"+PONG" in answer else Health("starting", answer.decode(errors="replace").strip())
    )


def postgres(pg_isready: Path, port: int) -> Health:
    """PostgreSQL's own readiness tool: accepting connections, recovery done."""
    command = [str(pg_isready), "-q", "-h", HOST, "-p", str(port), "-t", "2"]
    try:
        code = subprocess.run(command, timeout=5, check=False, capture_output=True).returncode
    except (OSError, subprocess.TimeoutExpired) as error:
        return Health("starting", str(error))
    return Health("ready") if code == 0 else Health("starting", "not accepting connections yet")


def kafka(port: int) -> Health:
    """A broker is ready when it answers a metadata request and names itself as the controller's broker."""
    if (health := listening(port)).state != "ready":
        return health
    from confluent_kafka import KafkaException
    from confluent_kafka.admin import AdminClient

    # Level 0: the client's own connection errors would otherwise go to the terminal.
    client = AdminClient({"bootstrap.servers": f"{HOST}:{port}", "log_level": 0, "socket.timeout.ms": 3000})
    try:
        brokers = client.list_topics(timeout=3).brokers
    except KafkaException as error:
        return Health("starting", str(error))
    return Health("ready") if brokers else Health("starting", "no broker registered yet")


def _json(url: str) -> dict[str, Any]:
    try:
        with urllib.request.urlopen(url, timeout=_TIMEOUT_S) as answer:
            value = json.load(answer)
    except (OSError, ValueError):
        return {}
    return value if isinstance(value, dict) else {}


def _number(value: object) -> float | None:
    return float(value) if isinstance(value, int | float) else None


def _reason(body: bytes) -> str | None:
    try:
        value = json.loads(body)
    except ValueError:
        return body.decode(errors="replace")[:200] or None
    return str(value["reason"]) if isinstance(value, dict) and "reason" in value else None
