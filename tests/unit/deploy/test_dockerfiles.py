"""Every image follows one pattern: locked packages of that service only, no root, a health check."""

from __future__ import annotations

import ast
import importlib.metadata
import json
import re
import shlex
import sys
import tomllib
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement

from deploy.docker.lock_subset import normalised, requirements
from deploy.local.layout import CHECKOUT
from deploy.local.versions import VERSIONS

BASE = "docker.io/library/python:3.11.14-slim-bookworm"
OURS = {"native", "schemas", "streamkit"}
PROJECT = (CHECKOUT / "pyproject.toml").read_text()


@dataclass(frozen=True)
class Image:
    """A stage that is run, and the builder before it."""

    dockerfile: str
    builder: str
    stage: str
    extras: tuple[str, ...]
    # Folders of ours that it runs, beside `schemas` and `streamkit`.
    packages: tuple[str, ...]
    has_http: bool = True
    # Of these packages, where only a part is run.
    part: str = ""

    @property
    def name(self) -> str:
        return f"{self.dockerfile.removesuffix('/Dockerfile')}:{self.stage}"


IMAGES = (
    Image("ingest_service/Dockerfile", "builder", "", ("ingest",), ("ingest_service",)),
    Image("quality_service/Dockerfile", "builder", "", ("quality", "ledger"), ("quality_service",)),
    Image("enrich_service/Dockerfile", "builder", "", ("enrich",), ("enrich_service",)),
    Image(
        "deploy/observability/lag/Dockerfile",
        "builder",
        "",
        ("lag",),
        ("deploy",),
        part="deploy/observability",
    ),
    Image("query_api/Dockerfile", "builder", "", ("query",), ("query_api",)),
    Image(
        "gold_writer/Dockerfile",
        "stores-builder",
        "stores",
        ("warehouse", "aggregates", "maintenance"),
        ("gold_writer",),
    ),
    Image("gold_writer/Dockerfile", "lake-builder", "lake", ("lake",), ("gold_writer",)),
    Image(
        "deploy/docker/connectors/Dockerfile",
        "builder",
        "",
        ("connectors",),
        ("deploy",),
        part="deploy/connect",
    ),
    Image(
        "deploy/docker/setup/Dockerfile", "builder", "", ("quality", "warehouse"), ("deploy",), has_http=False
    ),
)
# Kafka's own image with our plugins: no Python of ours runs in it.
CONNECT = "deploy/docker/connect/Dockerfile"
each_image = pytest.mark.parametrize("image", IMAGES, ids=lambda image: image.name)


def _stages(dockerfile: str) -> dict[str, list[str]]:
    """Name of each stage ("" where it has none) to its instructions, continuation lines joined."""
    text = (CHECKOUT / dockerfile).read_text().replace("\\\n", "")
    stages: dict[str, list[str]] = {}
    current: list[str] = []
    for line in (line.strip() for line in text.splitlines()):
        if line.startswith("FROM "):
            current = stages.setdefault(line.partition(" AS ")[2], [])
        if line and not line.startswith("#"):
            current.append(re.sub(r"\s+", " ", line))
    return stages


def _of(instructions: list[str], keyword: str) -> list[str]:
    return [line.removeprefix(f"{keyword} ") for line in instructions if line.startswith(f"{keyword} ")]


def test_every_dockerfile_of_the_tree_is_known_here_and_used_by_compose() -> None:
    tree = {str(path.relative_to(CHECKOUT)) for path in CHECKOUT.glob("*/Dockerfile")}
    tree |= {str(path.relative_to(CHECKOUT)) for path in (CHECKOUT / "deploy").rglob("Dockerfile")}
    containers = yaml.safe_load((CHECKOUT / "compose.yaml").read_text())["services"].values()
    used = {(c["build"]["dockerfile"], c["build"].get("target", "")) for c in containers if "build" in c}
    assert used == {(CONNECT, ""), *((image.dockerfile, image.stage) for image in IMAGES)}
    assert tree == {CONNECT, *(image.dockerfile for image in IMAGES)}


def test_connect_is_kafkas_image_with_the_pinned_version_and_no_root() -> None:
    text = (CHECKOUT / CONNECT).read_text()
    assert f"ARG KAFKA_IMAGE=docker.io/apache/kafka:{VERSIONS.kafka}\n" in text
    final = _stages(CONNECT)[""]
    assert final[0] == "FROM ${KAFKA_IMAGE}"
    assert _of(final, "COPY") == ["--from=builder /opt/connect /opt/connect"]
    assert _of(final, "USER") == ["1000"]
    assert len(_of(final, "HEALTHCHECK")) == 1
    (command,) = _of(final, "CMD")
    assert json.loads(command) == ["/opt/kafka/bin/connect-distributed.sh", "/opt/connect/worker.properties"]


@each_image
def test_both_stages_stand_on_one_base_that_can_be_given(image: Image) -> None:
    text = (CHECKOUT / image.dockerfile).read_text()
    assert re.findall(r"^ARG (.*)$", text, re.MULTILINE) == [f"PYTHON_IMAGE={BASE}"]
    assert {line.split()[1] for line in text.splitlines() if line.startswith("FROM ")} == {"${PYTHON_IMAGE}"}


@each_image
def test_packages_are_the_locked_ones_of_its_extras_with_hashes(image: Image) -> None:
    run = next(run for run in _of(_stages(image.dockerfile)[image.builder], "RUN") if "lock_subset" in run)
    commands = [shlex.split(command) for command in run.split(" && ")]
    assert commands[1][:2] == ["python", "lock_subset.py"]
    assert tuple(commands[1][2:-2]) == image.extras
    assert {"--require-hashes", "--no-deps", "--only-binary"} <= set(commands[2])
    sdists = [commands[2][i + 1] for i, word in enumerate(commands[2]) if word == "--no-binary"]
    # pyspark is published as source only.
    assert sdists == (["pyspark"] if image.stage == "lake" else [])


@each_image
def test_image_holds_only_its_own_packages_of_ours(image: Image) -> None:
    stages = _stages(image.dockerfile)
    copied = {
        line.split()[1].split("/")[2] for line in _of(stages[image.builder], "COPY") if " /app/" in line
    }
    expected = {*OURS, *image.packages} if image.has_http else {"native", "schemas", *image.packages}
    assert copied == expected
    from_builder = [line for line in _of(stages[image.stage], "COPY") if line.startswith("--from=")]
    assert all(line.startswith(f"--from={image.builder} ") for line in from_builder)
    assert {line.split()[-1] for line in from_builder} - {"/opt/spark-jars"} == {"/opt/venv", "/app"}
    others = [line for line in _of(stages[image.stage], "COPY") if not line.startswith("--from=")]
    assert others == (["deploy/docker/healthcheck.py /opt/healthcheck.py"] if image.has_http else [])


@each_image
def test_process_is_not_root_and_gets_its_signals(image: Image) -> None:
    final = _stages(image.dockerfile)[image.stage]
    assert _of(final, "USER") == ["10001"]
    after = final[final.index("USER 10001") :]
    assert not any(line.startswith(("RUN ", "COPY ", "ADD ")) for line in after)
    (command,) = _of(final, "CMD")
    # The exec form: a shell between would keep SIGTERM to itself.
    assert json.loads(command)[:2] == ["python", "-m"]
    assert not _of(final, "ENTRYPOINT")


@each_image
def test_server_has_a_health_check(image: Image) -> None:
    checks = _of(_stages(image.dockerfile)[image.stage], "HEALTHCHECK")
    assert len(checks) == (1 if image.has_http else 0)
    assert all(check.endswith('CMD ["python", "/opt/healthcheck.py"]') for check in checks)


def _closure(extras: tuple[str, ...]) -> set[str]:
    """Distributions that the extras bring, by the metadata of what is installed here."""
    found: set[str] = set()
    todo = [Requirement(text) for text in requirements(PROJECT, list(extras))]
    while todo:
        wanted = todo.pop()
        for extra in ("", *wanted.extras):
            key = f"{normalised(wanted.name)}[{extra}]"
            if key in found:
                continue
            found.add(key)
            for text in importlib.metadata.requires(wanted.name) or []:
                needed = Requirement(text)
                if needed.marker is None or needed.marker.evaluate({"extra": extra}):
                    todo.append(needed)
    return {key.partition("[")[0] for key in found}


def _imports(folder: Path) -> set[str]:
    """Top-level names of all modules that the files import."""
    names: set[str] = set()
    for path in folder.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                names |= {alias.name.partition(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
                names.add(node.module.partition(".")[0])
    return names


@pytest.mark.parametrize(
    "image", [i for i in IMAGES if not i.stage and i.has_http], ids=lambda image: image.name
)
def test_image_has_every_package_that_its_service_imports(image: Image) -> None:
    distributions = importlib.metadata.packages_distributions()
    available = _closure(image.extras)
    ours = {*OURS, *image.packages}
    missing = {
        name
        for folder in (*((image.part,) if image.part else image.packages), "streamkit")
        for name in _imports(CHECKOUT / folder) - ours - sys.stdlib_module_names
        if not {normalised(dist) for dist in distributions.get(name, [])} & available
    }
    assert missing == set()


def test_enrich_has_no_package_of_another_service() -> None:
    extras = tomllib.loads(PROJECT)["project"]["optional-dependencies"]
    foreign = {Requirement(r).name for name, rs in extras.items() if name != "enrich" for r in rs}
    assert _closure(("enrich",)) & foreign == set()
