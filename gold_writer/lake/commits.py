"""Commits of a Delta log as a follower reads them: one small JSON file each, no JVM, no listing."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

Action = dict[str, Any]


def commit_file(table: Path, version: int) -> Path:
    return table / "_delta_log" / f"{version:020d}.json"


def read_commit(table: Path, version: int) -> list[Action] | None:
    """The actions of a commit; None where it is not there (not yet, or no more)."""
    try:
        text = commit_file(table, version).read_text(encoding="utf-8")
    except FileNotFoundError:
        return None
    return [json.loads(line) for line in text.splitlines()]


def appended(actions: list[Action]) -> list[Action]:
    """The `add` entries that brought new rows.

    There are none where the commit removes files too: compaction, Z-order and the MERGE of later revisions
    rewrite rows that the table had before.
    """
    if any("remove" in action for action in actions):
        return []
    return [action["add"] for action in actions if "add" in action and action["add"]["dataChange"]]


def unchanged_since(table: Path, version: int) -> int:
    """The lowest version since which up to `version` no rows were appended, as far back as the log goes."""
    while version > 0 and (actions := read_commit(table, version)) is not None and not appended(actions):
        version -= 1
    return version
