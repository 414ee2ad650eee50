"""Our own processes: one entry each. A package that is not in the tree is not part of the stack."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from deploy.local import probes, server_connect, server_postgres, server_redis, server_registry
from deploy.local.credentials import personal_keys
from deploy.local.java import Java
from deploy.local.layout import CHECKOUT, Layout
from deploy.local.ports import HOST, Ports
from deploy.local.program import Program


@dataclass(frozen=True)
class Service:
    """`after`: the setup steps and servers it cannot start without (names of `lifecycle`).

    `stop_tier`: lower ones stop first, so that what was accepted can still drain towards the stores.
    """

    name: str
    module: str
    title: str
    after: tuple[str, ...]
    stop_tier: int
    min_uptime_s: int = 10
    ready_within_s: float = 180.0
    stop_within_s: int = 15
    env: Mapping[str, str] = field(default_factory=dict)

    def exists(self, checkout: Path = CHECKOUT) -> bool:
        return (checkout.joinpath(*self.module.split(".")) / "__main__.py").exists()


_STREAM = ("topics", "schemas")

SERVICES = (
    # Spark takes the longest to be ready, so it comes first. What ends within its start-up time has failed to
    # start: a refused checkpoint must end in `failed`, not in restarts for ever.
    Service(
        "lake",
        "gold_writer.lake",
        "Lake writer (Spark)",
        _STREAM,
        1,
        min_uptime_s=20,
        ready_within_s=300.0,
        stop_within_s=30,
    ),
    Service("quality", "quality_service", "Quality", _STREAM, 1),
    Service("enrich", "enrich_service", "Enrich", _STREAM, 1),
    Service("dimensions", "enrich_service.dimensions", "Dimension builder", _STREAM, 1),
    Service("warehouse", "gold_writer.warehouse", "Warehouse writer", (*_STREAM, "migrate"), 1),
    Service("aggregates", "gold_writer.aggregates", "Aggregates", _STREAM, 1),
    Service("maintenance", "gold_writer.maintenance", "Scheduled jobs", (*_STREAM, "migrate"), 1),
    Service("ledger", "quality_service.ledger", "Ledger", (*_STREAM, "migrate"), 1),
    # It stops with the doors: nothing depends on it.
    Service("lag", "deploy.observability.lag", "Lag exporter", ("topics", "migrate"), 0),
    Service("connectors", "deploy.connect", "Connectors", (*_STREAM, "migrate"), 0),
    Service("ingest", "ingest_service", "Ingest", (*_STREAM, "redis"), 0),
    Service("query", "query_api", "Query API", ("migrate", "redis"), 0),
)


def existing() -> tuple[Service, ...]:
    return tuple(service for service in SERVICES if service.exists())


def program(service: Service, layout: Layout, ports: Ports, java: Java) -> Program:
    return Program(
        name=service.name,
        title=service.title,
        command=(sys.executable, "-m", service.module),
        env={**environment(layout, ports, java), **_own(service, layout, ports), **service.env},
        probe=partial(probes.service, ports.url(service.name)),
        min_uptime_s=service.min_uptime_s,
        ready_within_s=service.ready_within_s,
        stop_within_s=service.stop_within_s,
        prepare=partial((layout.state / service.name).mkdir, exist_ok=True),
    )


def environment(layout: Layout, ports: Ports, java: Java) -> dict[str, str]:
    """What every process of ours is told (`streamkit.settings.PlatformSettings`)."""
    stages = {service.name: ports.url(service.name) for service in existing() if service.name != "query"}
    return {
        "JAVA_HOME": str(java.home),
        "PYTHONPATH": str(CHECKOUT),
        # Batches are small and the processes many: a pool of threads each only waits for the processor.
        "POLARS_MAX_THREADS": "1",
        "PYTHONUNBUFFERED": "1",
        "SPARK_LOCAL_IP": HOST,
        "TILLSTREAM_KAFKA": f"{HOST}:{ports['kafka']}",
        "TILLSTREAM_REGISTRY": server_registry.url(ports),
        "TILLSTREAM_POSTGRES": server_postgres.dsn(layout, ports),
        "TILLSTREAM_REDIS": server_redis.url(layout, ports),
        "TILLSTREAM_LAKE": str(layout.lake),
        "TILLSTREAM_HTTP_HOST": HOST,
        "TILLSTREAM_INSTANCE": "0",
        "TILLSTREAM_INGEST_URL": ports.url("ingest"),
        "TILLSTREAM_LEDGER_URL": ports.url("ledger"),
        "TILLSTREAM_LAG_URL": ports.url("lag"),
        "TILLSTREAM_LAG_CHECKPOINTS": str(layout.state / "lake" / "checkpoints"),
        "TILLSTREAM_STAGES": json.dumps(stages),
        "TILLSTREAM_SPARK_JARS": str(layout.spark_jars),
    }


def _own(service: Service, layout: Layout, ports: Ports) -> dict[str, str]:
    return {
        **(_connectors(layout, ports) if service.name == "connectors" else {}),
        **(personal_keys(layout) if service.name == "query" else {}),
        "TILLSTREAM_SERVICE": service.name,
        "TILLSTREAM_HTTP_PORT": str(ports[service.name]),
        "TILLSTREAM_STATE": str(layout.state / service.name),
    }


def _connectors(layout: Layout, ports: Ports) -> dict[str, str]:
    return {
        "TILLSTREAM_CONNECT_URL": ports.url("connect"),
        "TILLSTREAM_CDC_PASSWORD": server_connect.password(layout),
    }
