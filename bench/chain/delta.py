"""When each row of a Delta table became visible: from its commit files and the data files they add."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote

import polars as pl


@dataclass(frozen=True, slots=True)
class Commit:
    """`at_ms`: when the commit file was written, which makes its rows visible; `files` hold new rows."""

    version: int
    at_ms: float
    files: tuple[Path, ...]


def commits(table: Path) -> list[Commit]:
    """Those that added rows, in order. What compaction rewrites is marked as such, and left out."""
    found = []
    for path in sorted((table / "_delta_log").glob("*.json")):
        if not path.stem.isdecimal():
            continue
        actions = [json.loads(line) for line in path.read_text().splitlines()]
        adds = [action["add"] for action in actions if "add" in action]
        files = tuple(table / unquote(add["path"]) for add in adds if add["dataChange"])
        if files:
            found.append(Commit(int(path.stem), path.stat().st_mtime_ns / 1e6, files))
    return found


def visible(table: Path, columns: dict[str, pl.DataType]) -> pl.DataFrame:
    """`columns` of every row, with the types given, and `at_ms`, when its first commit became visible.

    A file that was removed meanwhile (VACUUM) is left out: its rows then count as missing.
    """
    parts = []
    for commit in commits(table):
        for file in commit.files:
            if file.exists():
                frame = pl.read_parquet(file, columns=list(columns), hive_partitioning=False).cast(columns)  # type: ignore[arg-type]
                parts.append(frame.with_columns(at_ms=pl.lit(commit.at_ms, pl.Float64)))
    return pl.concat(parts) if parts else pl.DataFrame(schema={**columns, "at_ms": pl.Float64()})
