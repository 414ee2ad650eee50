"""The schema registry: Apicurio behind Confluent's API, kept in an H2 file in the home."""

from __future__ import annotations

from functools import partial

from deploy.local import class_archive, probes
from deploy.local.java import Java
from deploy.local.layout import Layout
from deploy.local.ports import HOST, Ports
from deploy.local.program import Program
from deploy.local.versions import VERSIONS

API = "/apis/ccompat/v7"


def url(ports: Ports) -> str:
    """What a Confluent client takes."""
    return ports.url("registry") + API


def program(layout: Layout, ports: Ports, java: Java) -> Program:
    database = layout.data / "registry" / "registry"
    app = f"apicurio-registry-app-{VERSIONS.registry}-runner.jar"
    return Program(
        name="registry",
        title="Schema registry",
        command=(
            str(java.java),
            "-Xms64m",
            "-Xmx320m",
            *class_archive.options(layout.registry_app, layout),
            "-XX:+UseSerialGC",
            "-XX:TieredStopAtLevel=1",
            f"-Djava.io.tmpdir={database.parent}",
            f"-Dquarkus.http.host={HOST}",
            f"-Dquarkus.http.port={ports['registry']}",
            # Without a file URL everything is lost at a restart.
            f"-Dquarkus.datasource.jdbc.url=jdbc:h2:file:{database}",
            "-Dquarkus.datasource.jdbc.min-size=2",
            "-Dquarkus.datasource.jdbc.initial-size=2",
            "-Dquarkus.datasource.jdbc.max-size=10",
            # A schema that differs in white space only is the same schema and keeps its id.
            "-Dregistry.ccompat.use-canonical-hash=true",
            "-jar",
            str(layout.registry_app / app),
        ),
        env={"JAVA_HOME": str(java.home)},
        cwd=layout.registry_app,
        probe=partial(probes.http_ok, f"{url(ports)}/subjects"),
        min_uptime_s=10,
        prepare=partial(database.parent.mkdir, parents=True, exist_ok=True),
    )
