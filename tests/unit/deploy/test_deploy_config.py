"""What is written for the servers."""

from __future__ import annotations

import base64
import json
from pathlib import Path

import pytest

from deploy.local import class_archive, server_kafka, server_postgres, server_redis, server_registry, services
from deploy.local.java import Java
from deploy.local.layout import Layout
from deploy.local.ports import Ports
from deploy.local.versions import VERSIONS

PORTS = Ports(20000)
JAVA = Java(Path("/jdk"))


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    return Layout(tmp_path / "home", tmp_path / "tools").create()


def test_kafka_listens_on_loopback_only_with_one_replica_of_everything(tmp_path: Path) -> None:
    found = server_kafka.properties(PORTS, tmp_path)
    assert found["listeners"] == "PLAINTEXT://127.0.0.1:20092,CONTROLLER://127.0.0.1:20093"
    assert found["auto.create.topics.enable"] == "false"
    factors = {value for key, value in found.items() if key.endswith(("replication.factor", "min.isr"))}
    assert factors == {"1"}


def test_cluster_id_is_kafkas_form_and_stays_the_same(layout: Layout) -> None:
    first = server_kafka.cluster_id(layout)
    assert len(base64.urlsafe_b64decode(first + "==")) == 16
    assert server_kafka.cluster_id(layout) == first


def test_registry_keeps_its_schemas_in_the_home(layout: Layout) -> None:
    command = server_registry.program(layout, PORTS, JAVA).command
    assert f"-Dquarkus.datasource.jdbc.url=jdbc:h2:file:{layout.data}/registry/registry" in command
    assert "-Dregistry.ccompat.use-canonical-hash=true" in command
    assert command[-1].endswith(f"apicurio-registry-app-{VERSIONS.registry}-runner.jar")


def test_redis_configuration_binds_loopback_asks_a_password_and_saves_nothing(layout: Layout) -> None:
    lines = server_redis.config(layout, PORTS).splitlines()
    assert {"bind 127.0.0.1", "port 20079", 'save ""', "appendonly no", "set-proc-title no"} <= set(lines)
    password = next(line.split()[1] for line in lines if line.startswith("requirepass"))
    assert server_redis.url(layout, PORTS) == f"redis://:{password}@127.0.0.1:20079/0"


def test_class_archive_is_written_at_the_first_end_and_used_from_then_on(layout: Layout) -> None:
    layout.kafka_jars.mkdir(parents=True)
    option = next(o for o in class_archive.options(layout.kafka_jars, layout) if "ArchiveClassesAtExit" in o)
    Path(option.partition("=")[2]).touch()
    # Another home neither uses nor takes what this one may still be writing.
    other = Layout(layout.home.parent / "other", layout.tools).create()
    class_archive.adopt(other)
    assert "-Xshare:auto" not in class_archive.options(layout.kafka_jars, other)
    class_archive.adopt(layout)
    assert "-Xshare:auto" in class_archive.options(layout.kafka_jars, other)


def test_secrets_are_made_once_and_are_their_owners_only(layout: Layout) -> None:
    first = server_postgres.dsn(layout, PORTS)
    assert server_postgres.dsn(layout, PORTS) == first
    assert {path.stat().st_mode & 0o077 for path in layout.secrets.iterdir()} == {0}
    other = Layout(layout.home.parent / "other", layout.tools).create()
    assert server_postgres.dsn(other, PORTS) != first


def test_postgres_is_stopped_by_its_fast_shutdown_and_listens_on_loopback(layout: Layout) -> None:
    found = server_postgres.program(layout, PORTS)
    assert found.stop_signal == "INT"
    assert "listen_addresses=127.0.0.1" in found.command
    assert "unix_socket_directories=" in found.command


def test_service_is_told_where_everything_is(layout: Layout) -> None:
    quality = next(service for service in services.SERVICES if service.name == "quality")
    env = services.program(quality, layout, PORTS, JAVA).env
    assert env["TILLSTREAM_KAFKA"] == "127.0.0.1:20092"
    assert env["TILLSTREAM_REGISTRY"] == "http://127.0.0.1:20081/apis/ccompat/v7"
    assert env["TILLSTREAM_HTTP_PORT"] == "20010"
    assert env["TILLSTREAM_SERVICE"] == "quality"
    assert env["TILLSTREAM_STATE"] == str(layout.state / "quality")
    assert env["TILLSTREAM_LAKE"] == str(layout.lake)
    stages = json.loads(env["TILLSTREAM_STAGES"])
    assert all(url == PORTS.url(name) for name, url in stages.items())


def test_service_whose_package_is_not_in_the_tree_is_not_listed(tmp_path: Path) -> None:
    service = services.SERVICES[0]
    assert not service.exists(tmp_path)
    folder = tmp_path.joinpath(*service.module.split("."))
    folder.mkdir(parents=True)
    (folder / "__main__.py").touch()
    assert service.exists(tmp_path)
