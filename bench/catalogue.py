"""The workloads by name. Importing it imports no third-party package, so that `--list` needs none."""

from __future__ import annotations

import importlib
from types import ModuleType
from typing import Final

NAMES: Final = ("stage_transform", "stage_durable", "codec", "scale", "e2e_latency", "year")


def workload(name: str) -> ModuleType:
    """The module of a workload: `HELP`, `arguments(parser)` and `run(args) -> Result`."""
    return importlib.import_module(f"bench.workloads.{name}")
