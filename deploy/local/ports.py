"""Which port each process takes, and whether it is free."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from deploy.local.errors import WRONG_USAGE, CommandError

HOST = "127.0.0.1"
DEFAULT_BASE = 17000
OFFSETS: Mapping[str, int] = {
    "ingest": 0,
    "query": 1,
    "quality": 10,
    "enrich": 11,
    "lake": 12,
    "warehouse": 13,
    "ledger": 14,
    "aggregates": 15,
    "lag": 16,
    "dimensions": 17,
    "maintenance": 20,
    "postgres": 32,
    "redis": 79,
    "registry": 81,
    "connectors": 82,
    "connect": 83,
    "kafka": 92,
    "kafka controller": 93,
}
_HIGHEST_OFFSET = max(OFFSETS.values())
_FIRST_UNPRIVILEGED = 1024


@dataclass(frozen=True)
class Ports:
    """Ports of one stack: `base` plus a fixed offset per process."""

    base: int

    def __post_init__(self) -> None:
        if not _FIRST_UNPRIVILEGED <= self.base <= 65535 - _HIGHEST_OFFSET:
            raise CommandError(
                f"port base {self.base} is out of range: "
                f"choose {_FIRST_UNPRIVILEGED} to {65535 - _HIGHEST_OFFSET}",
                WRONG_USAGE,
            )

    @classmethod
    def choose(cls, argument: int | None, environ: Mapping[str, str] | None = None) -> Ports:
        """`--port-base`, else `TILLSTREAM_PORT_BASE`, else the default."""
        if argument is not None:
            return cls(argument)
        text = (os.environ if environ is None else environ).get("TILLSTREAM_PORT_BASE") or str(DEFAULT_BASE)
        if not text.isdecimal():
            raise CommandError(f"TILLSTREAM_PORT_BASE is not a number: {text}", WRONG_USAGE)
        return cls(int(text))

    def __getitem__(self, name: str) -> int:
        return self.base + OFFSETS[name]

    def url(self, name: str) -> str:
        return f"http://{HOST}:{self[name]}"

    def of(self, programs: Iterable[str]) -> dict[str, int]:
        """Ports that these processes listen on, by a name for people."""
        wanted = set(programs)
        return {name: self[name] for name in OFFSETS if name.split()[0] in wanted}


def is_free(port: int, host: str = HOST) -> bool:
    """Whether a server could listen there now."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        # As the servers do: a connection in TIME_WAIT does not count, a listener does.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
            probe.listen(1)
        except OSError:
            return False
    return True


def require_free(ports: Ports, programs: Iterable[str]) -> None:
    """Raise with one line that names every port that is taken."""
    taken = [f"{port} ({name})" for name, port in ports.of(programs).items() if not is_free(port)]
    if taken:
        what = "port" if len(taken) == 1 else "ports"
        verb = "is" if len(taken) == 1 else "are"
        raise CommandError(
            f"{what} {', '.join(taken)} {verb} taken by another process: "
            f"end it, or choose other ports with --port-base N or TILLSTREAM_PORT_BASE"
        )


def free_base(programs: Iterable[str] | None = None, start: int = 23000, stop: int = 32000) -> Ports:
    """A base all of whose ports are free, below the range that Linux gives to outgoing connections.

    Where it begins depends on the process, so that two test runs at once rarely meet.
    """
    names = list(OFFSETS if programs is None else programs)
    step = 100
    slots = (stop - start) // step
    for i in range(slots):
        candidate = Ports(start + (os.getpid() + i) % slots * step)
        if all(is_free(port) for port in candidate.of(names).values()):
            return candidate
    raise CommandError(f"no free ports between {start} and {stop}")
