"""What to do about a connector, from what is wanted and what Connect says. Pure: data in, data out."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Any

RUNNING, FAILED = "RUNNING", "FAILED"


@dataclass(frozen=True, slots=True)
class Connector:
    """A connector as its file says it is."""

    name: str
    config: Mapping[str, str]

    @classmethod
    def load(cls, path: Path) -> Connector:
        """Raises ValueError, naming the file."""
        try:
            document = json.loads(path.read_bytes())
            config = {str(key): str(value) for key, value in document["config"].items()}
            return cls(str(document["name"]), config)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise ValueError(f"{path.name} is no connector: {error!r}") from error


@dataclass(frozen=True, slots=True)
class Part:
    """The connector itself, or one of its tasks; `trace` is the Java stack trace of a failure."""

    state: str
    trace: str = ""


@dataclass(frozen=True, slots=True)
class Observed:
    """One connector as Connect's REST API tells it (`expand=info&expand=status`)."""

    config: Mapping[str, str]
    connector: Part
    tasks: tuple[Part, ...]

    @classmethod
    def of(cls, entry: Mapping[str, Any]) -> Observed:
        status, config = entry["status"], dict(entry["info"]["config"])
        config.pop("name", None)  # Connect adds it
        tasks = tuple(_part(task) for task in status["tasks"])
        return cls(config, _part(status["connector"]), tasks)

    @property
    def parts(self) -> tuple[Part, ...]:
        return (self.connector, *self.tasks)

    @property
    def failed(self) -> bool:
        return any(part.state == FAILED for part in self.parts)

    @property
    def running(self) -> bool:
        return bool(self.tasks) and all(part.state == RUNNING for part in self.parts)

    def trouble(self) -> str | None:
        """One line a person can act on, None while it runs."""
        if self.running:
            return None
        traces = [part.trace for part in self.parts if part.state == FAILED]
        if traces:
            return root_cause(traces[0])
        return "no task yet" if not self.tasks else f"its task is {self.tasks[0].state}"


class Action(Enum):
    NOTHING = "nothing"
    CONFIGURE = "configure"
    RESTART = "restart"


def action(wanted: Connector, observed: Observed | None) -> Action:
    """A file that changed goes before a restart: it may be the repair."""
    if observed is None or dict(observed.config) != dict(wanted.config):
        return Action.CONFIGURE
    return Action.RESTART if observed.failed else Action.NOTHING


@dataclass(slots=True)
class Backoff:
    """When to try again: after `first_s`, then twice as long each time, up to `max_s`.

    It begins anew once the connector ran for `settled_s`. Times are those of one monotonic clock.
    """

    first_s: float
    max_s: float
    settled_s: float
    attempts: int = 0
    _due_s: float = 0.0
    _running_since_s: float | None = None

    def due(self, now_s: float) -> bool:
        return now_s >= self._due_s

    def tried(self, now_s: float) -> None:
        delay_s = min(self.first_s * 2.0 ** min(self.attempts, 30), self.max_s)
        self.attempts += 1
        self._due_s = now_s + delay_s
        self._running_since_s = None

    def ran(self, now_s: float) -> None:
        if self._running_since_s is None:
            self._running_since_s = now_s
        elif now_s - self._running_since_s >= self.settled_s:
            self.attempts, self._due_s = 0, now_s


def root_cause(trace: str) -> str:
    """The last `Caused by` of a Java stack trace, else its first line; without the exception's package."""
    lines = [line.strip() for line in trace.splitlines() if line.strip()]
    causes = [line.removeprefix("Caused by: ") for line in lines if line.startswith("Caused by: ")]
    line = (causes or lines or ["no reason given"])[-1 if causes else 0]
    kind, separator, message = line.partition(": ")
    return f"{kind.rpartition('.')[2]}{separator}{message}"[:500]


def _part(entry: Mapping[str, Any]) -> Part:
    return Part(str(entry["state"]), str(entry.get("trace") or ""))
