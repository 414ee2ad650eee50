"""What one process of the stack is: how it starts, when it is ready, how it stops."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from deploy.local.layout import CHECKOUT, STACK_MARK, Layout, write_private

State = Literal["starting", "ready", "degraded", "stopped", "failed"]

# Variables of the person's own shell that a process of the stack may see; nothing else passes, so that the
# stack behaves the same whoever starts it and keeps no foreign secret.
_INHERITED = (
    "PATH",
    "HOME",
    "LANG",
    "LC_ALL",
    "TMPDIR",
    "SSL_CERT_FILE",
    "SSL_CERT_DIR",
    "TILLSTREAM_HEARTBEAT_SECONDS",
)


@dataclass(frozen=True)
class Health:
    """One answer of a readiness probe. What it says of its lag and latency is None where it knows none."""

    state: State
    reason: str | None = None
    lag: int | None = None
    lag_seconds: float | None = None
    p50_ms: float | None = None
    p99_ms: float | None = None


Probe = Callable[[], Health]


@dataclass(frozen=True)
class Program:
    """One process under supervision.

    `min_uptime_s`: one that ends sooner has failed to start; five such starts in a row and it stays down.
    `stop_after`: names that must have stopped before this one is told to.
    `prepare`: makes what the process needs on disk; idempotent; run before every start of the stack.
    """

    name: str
    title: str
    command: tuple[str, ...]
    probe: Probe
    env: Mapping[str, str] = field(default_factory=dict)
    cwd: Path = CHECKOUT
    uid: int | None = None
    min_uptime_s: int = 10
    ready_within_s: float = 180.0
    stop_signal: str = "TERM"
    stop_within_s: int = 15
    stop_after: tuple[str, ...] = ()
    prepare: Callable[[], None] | None = None

    def full_env(self, layout: Layout) -> dict[str, str]:
        """Exactly what the process sees."""
        inherited = {name: os.environ[name] for name in _INHERITED if name in os.environ}
        return {**inherited, **self.env, STACK_MARK: str(layout.home), "TILLSTREAM_HOME": str(layout.home)}

    def spec(self, layout: Layout) -> dict[str, object]:
        """What `launch.py` reads."""
        return {
            "command": list(self.command),
            "cwd": str(self.cwd),
            "env": self.full_env(layout),
            "uid": self.uid,
            "umask": 0o022,
            "death_signal": f"SIG{self.stop_signal}",
        }

    def write_spec(self, layout: Layout) -> Path:
        path = layout.programs / f"{self.name}.json"
        write_private(path, json.dumps(self.spec(layout), indent=1))
        return path
