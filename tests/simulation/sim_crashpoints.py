"""Every crash point there is, read from the source: nobody has to remember to list a new one."""

from __future__ import annotations

import ast
from functools import cache
from pathlib import Path

from tests.simulation.sim_services import ENRICH, LAKE, QUALITY, TOTALS, WAREHOUSE

CHECKOUT = Path(__file__).parents[2]
PASSED_BY: dict[str, tuple[str, ...]] = {
    "streamkit/runner.py": (QUALITY, ENRICH, TOTALS),
    "streamkit/sink_runner.py": (WAREHOUSE,),
    "quality_service": (QUALITY,),
    # Dimensions do not change in the simulation: tests/unit/dimensions kills the correction at its points.
    "enrich_service/corrections": (),
    "enrich_service": (ENRICH,),
    "gold_writer/warehouse": (WAREHOUSE,),
    "gold_writer/aggregates": (TOTALS,),
}
"""File or folder -> the services of the simulation that pass its crash points."""
PRODUCT = (
    "streamkit",
    "schemas",
    "ingest_service",
    "quality_service",
    "enrich_service",
    "gold_writer",
    "query_api",
)
LAKE_MODEL = ("lake-after-plan", "lake-after-append", "lake-after-done")


def in_source() -> dict[str, list[str]]:
    """File -> names of its crash points. Raises ValueError for one whose name is not a literal."""
    found: dict[str, list[str]] = {}
    for package in PRODUCT:
        for path in sorted((CHECKOUT / package).rglob("*.py")):
            name = path.relative_to(CHECKOUT).as_posix()
            points = _points(path) if name != "streamkit/crashpoints.py" else []
            if points:
                found[name] = points
    return found


def _points(path: Path) -> list[str]:
    text = path.read_text(encoding="utf-8")
    if "crash_point(" not in text:
        return []
    points = []
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "crash_point":
            argument = node.args[0]
            if not (isinstance(argument, ast.Constant) and isinstance(argument.value, str)):
                raise ValueError(f"{path}:{node.lineno}: the name of a crash point must be a literal")
            points.append(argument.value)
    return points


@cache
def points_of() -> list[tuple[str, str]]:
    """(service, crash point) of all that the simulation has to pass, in a fixed order.

    Raises KeyError for a file that no simulated service is known to run.
    """
    every = {(LAKE, point) for point in LAKE_MODEL}
    for file, points in in_source().items():
        folder = next((key for key in PASSED_BY if file == key or file.startswith(f"{key}/")), file)
        every |= {(service, point) for service in PASSED_BY[folder] for point in points}
    return sorted(every)
