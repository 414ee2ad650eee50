"""What a figure depends on: the machine, the versions, how busy it was."""

from __future__ import annotations

import importlib.metadata
import os
import platform
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from deploy.local.versions import VERSIONS

_OURS = ("confluent-kafka", "fastavro", "polars", "pyarrow", "pyruhvro", "lmdb", "pyspark", "deltalake")


def describe() -> dict[str, Any]:
    """Date, processor, cores, memory, load before the benchmark, and versions of what it uses."""
    return {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "cores": len(os.sched_getaffinity(0)),
        "processor": _line("/proc/cpuinfo", "model name"),
        "memory_gib": round(int(_line("/proc/meminfo", "MemTotal").split()[0]) / 2**20, 1),
        "kernel": platform.release(),
        "load_before": round(os.getloadavg()[0], 2),
        "versions": {
            "python": platform.python_version(),
            "kafka": VERSIONS.kafka,
            "spark": VERSIONS.spark,
            "delta": VERSIONS.delta,
            "java": str(VERSIONS.java_release),
            **{name: version for name in _OURS if (version := _version(name))},
        },
    }


def locked_version(lock: Path, package: str) -> str:
    """The version that a lock pins. Raises ValueError where it holds no such package."""
    for line in lock.read_text().splitlines():
        name, separator, rest = line.partition("==")
        if separator and name == package:
            return rest.split()[0]
    raise ValueError(f"{lock.name} holds no {package}")


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _line(path: str, name: str) -> str:
    for line in Path(path).read_text().splitlines():
        key, _, value = line.partition(":")
        if key.strip() == name:
            return value.strip()
    return "0 unknown"
