"""Removes expired files of the tables' logs, in this process and beside the queries.

Delta's own clean-up, part of every checkpoint, cuts at midnight: a table with a commit a second would keep
up to 86,400 commits whatever its retention says. Removing log entries touches no data and takes no commit.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Sequence
from pathlib import Path

from deltalake import DeltaTable
from deltalake.exceptions import DeltaError

_log = logging.getLogger(__name__)


class LogCleaner:
    """A thread that cleans the logs of the tables, one after another, every `seconds`."""

    def __init__(self, paths: Sequence[Path], seconds: float = 600.0) -> None:
        self._paths = tuple(paths)
        self._seconds = seconds
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="log-cleaner", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def close(self) -> None:
        self._stop.set()

    def _run(self) -> None:
        while not self._stop.wait(self._seconds):
            for path in self._paths:
                clean(path)


def clean(path: Path) -> None:
    """Remove log entries older than the table's retention that lie before an equally old checkpoint."""
    try:
        DeltaTable(str(path)).cleanup_metadata()
        _remove_checksums(path / "_delta_log")
    except (DeltaError, OSError):
        _log.exception("the log was not cleaned; the next round tries again", extra={"table": str(path)})


def _remove_checksums(log: Path) -> None:
    """Checksums of commits that are gone: `deltalake` leaves them."""
    names = [entry.name for entry in log.iterdir()]
    oldest = min((name for name in names if name.endswith(".json") and name[0].isdigit()), default="")
    for name in names:
        if name.endswith(".crc") and name[0].isdigit() and name < oldest:
            (log / name).unlink(missing_ok=True)
