"""Room on the disks that the lake writes to."""

from __future__ import annotations

import logging
import shutil
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from streamkit.stats import StageStats

_log = logging.getLogger(__name__)

# The micro-batches of some minutes, and Spark's own files.
ROOM_BYTES: Final = 64 << 20
_ASK_SECONDS: Final = 1.0


def await_room(folders: Sequence[Path], stats: StageStats, stopping: threading.Event) -> None:
    """Blocks while a disk of `folders` is full, and says so: as the reason in `/ready`, and once in the log.

    A full disk ends the queries and with them the process. Started again at once it would only fail again,
    and after five failed starts nobody would start it any more; here it goes on when there is room.
    """
    told = False
    while not stopping.is_set() and (reason := _full(folders)):
        if not told:
            _log.error("the lake waits for room", extra={"reason": reason})
            stats.starting(reason)
            told = True
        stopping.wait(_ASK_SECONDS)


def _full(folders: Sequence[Path]) -> str | None:
    for folder in folders:
        folder.mkdir(parents=True, exist_ok=True)
        free = shutil.disk_usage(folder).free
        if free < ROOM_BYTES:
            needed = ROOM_BYTES >> 20
            return f"no space left on the disk of {folder}: {free >> 20} MiB are free, {needed} are needed"
    return None
