"""One stack: its home, its ports, its programs, its URLs. Building it starts nothing."""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path

from deploy.local import (
    server_connect,
    server_kafka,
    server_postgres,
    server_redis,
    server_registry,
    services,
)
from deploy.local.errors import NOT_RUNNING, CommandError
from deploy.local.java import Java
from deploy.local.layout import Layout, read_json
from deploy.local.ports import HOST, Ports
from deploy.local.program import Program
from deploy.local.supervision import Supervisor

SERVERS = ("kafka", "registry", "postgres", "redis")
# Servers that need others, by what they need; without one of them the rest runs on.
DEPENDENT_SERVERS: Mapping[str, tuple[str, ...]] = {"connect": ("kafka",)}
# Names of `status --json` that later parts of the platform fill in.
_URL_NAMES = (
    *("ingest", "query", "graphql", "console", "kafka", "registry", "connect", "postgres", "redis"),
    *("elasticsearch", "typesense"),
)


@dataclass(frozen=True)
class Stack:
    """`only`: the programs of this stack; all that the tree holds when None was asked for."""

    layout: Layout
    ports: Ports
    java: Java
    only: tuple[str, ...]

    @classmethod
    def build(cls, layout: Layout, ports: Ports, java: Java, only: Collection[str] | None = None) -> Stack:
        names = names_in_tree()
        if only is not None and (unknown := set(only) - set(names)):
            raise CommandError(f"no such service: {', '.join(sorted(unknown))}")
        return cls(layout, ports, java, tuple(name for name in names if only is None or name in only))

    @classmethod
    def current(cls, environ: Mapping[str, str] | None = None) -> Stack | None:
        """The running stack of this home, or None."""
        layout = Layout.from_environment(os.environ if environ is None else environ)
        record = read_json(layout.record)
        if record is None or not Supervisor(layout).is_up():
            return None
        base, java_home, only = record["port_base"], record["java_home"], record["programs"]
        assert isinstance(base, int)
        assert isinstance(only, list)
        return cls(layout, Ports(base), Java(Path(str(java_home))), tuple(only))

    @classmethod
    def require(cls) -> Stack:
        """The running stack, or the exit code for `not running`."""
        stack = cls.current()
        if stack is None:
            raise CommandError("not running; start it with ./tillstream up", NOT_RUNNING)
        return stack

    def record(self) -> dict[str, object]:
        return {
            "port_base": self.ports.base,
            "java_home": str(self.java.home),
            "programs": list(self.only),
        }

    def programs(self) -> tuple[Program, ...]:
        """In the order of `only`: servers first."""
        return tuple(self.program(name) for name in self.only)

    def program(self, name: str) -> Program:
        match name:
            case "kafka":
                return server_kafka.program(self.layout, self.ports, self.java)
            case "registry":
                return server_registry.program(self.layout, self.ports, self.java)
            case "postgres":
                return server_postgres.program(self.layout, self.ports)
            case "redis":
                return server_redis.program(self.layout, self.ports)
            case "connect":
                return server_connect.program(self.layout, self.ports, self.java)
            case _:
                service = next(s for s in services.SERVICES if s.name == name)
                return services.program(service, self.layout, self.ports, self.java)

    def urls(self) -> dict[str, str | None]:
        """The `urls` of `status --json`: what this stack does not hold is None."""
        ports = self.ports
        query = ports.url("query")
        known = {
            "ingest": ports.url("ingest"),
            "query": query,
            "graphql": f"{query}/graphql",
            "console": f"{query}/",
            "kafka": f"{HOST}:{ports['kafka']}",
            "registry": server_registry.url(ports),
            "connect": ports.url("connect"),
            "postgres": server_postgres.dsn(self.layout, ports),
            "redis": server_redis.url(self.layout, ports),
        }
        owner = {"graphql": "query", "console": "query"}
        return {name: known.get(name) if owner.get(name, name) in self.only else None for name in _URL_NAMES}


def names_in_tree() -> tuple[str, ...]:
    """Servers, then the services whose packages exist, in starting order."""
    return (*SERVERS, *DEPENDENT_SERVERS, *(service.name for service in services.existing()))


def no_urls() -> dict[str, str | None]:
    return dict.fromkeys(_URL_NAMES)
