"""Removes expired files of a table's log, and makes a checkpoint where its writer made none.

Delta's own clean-up, part of every checkpoint, cuts at midnight: a table with a commit a second would keep
up to 86,400 commits whatever its retention says. Neither touches data or takes a commit.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Final

from deltalake import DeltaTable

_OVERDUE: Final = 300
"""Commits since the last checkpoint after which one is made here; writers make theirs every 100."""


def clean(path: Path) -> int:
    """Remove log entries older than the table's retention that lie before an equally old checkpoint.

    Returns how many files went. Raises DeltaError, OSError.
    """
    log = path / "_delta_log"
    before = len(list(log.iterdir()))
    table = DeltaTable(str(path))
    if table.version() - _last_checkpoint(log) > _OVERDUE:
        table.create_checkpoint()
    table.cleanup_metadata()
    _remove_checksums(log)
    return max(before - len(list(log.iterdir())), 0)


def _last_checkpoint(log: Path) -> int:
    try:
        return int(json.loads((log / "_last_checkpoint").read_text(encoding="utf-8"))["version"])
    except FileNotFoundError:
        return 0


def _remove_checksums(log: Path) -> None:
    """Checksums of commits that are gone: `deltalake` leaves them."""
    names = [entry.name for entry in log.iterdir()]
    oldest = min((name for name in names if name.endswith(".json") and name[0].isdigit()), default="")
    for name in names:
        if name.endswith(".crc") and name[0].isdigit() and name < oldest:
            (log / name).unlink(missing_ok=True)
