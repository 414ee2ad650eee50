"""`versions.toml`, typed. Standard library only."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from pathlib import Path

_FILE = Path(__file__).with_name("versions.toml")


@dataclass(frozen=True)
class Versions:
    java_release: int
    java_packages: tuple[str, ...]
    maven_packages: tuple[str, ...]
    maven_dependency_plugin: str
    kafka: str
    kafka_log4j: str
    debezium: str
    registry: str
    spark: str
    delta: str


def load(path: Path = _FILE) -> Versions:
    table = tomllib.loads(path.read_text())
    return Versions(
        java_release=int(table["java"]["release"]),
        java_packages=tuple(table["java"]["packages"]),
        maven_packages=tuple(table["maven"]["packages"]),
        maven_dependency_plugin=str(table["maven"]["dependency_plugin"]),
        kafka=str(table["kafka"]["version"]),
        kafka_log4j=str(table["kafka"]["log4j"]),
        debezium=str(table["connect"]["debezium"]),
        registry=str(table["registry"]["version"]),
        spark=str(table["spark"]["version"]),
        delta=str(table["spark"]["delta"]),
    )


VERSIONS = load()
