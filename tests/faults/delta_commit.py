"""Halts Spark at the one instant where Delta has a batch and Spark's checkpoint does not know it yet."""

from __future__ import annotations

import ctypes
import os
import select
import signal
import time
from pathlib import Path

from deploy.local.layout import Layout
from gold_writer.lake.guard import CheckpointState, TableState

_IN_CREATE = 0x100
_WITHIN_S = 60.0


def stop_after_delta_commit(lake: int, layout: Layout) -> tuple[int, int]:
    """SIGSTOP the JVM of the lake writer (`lake` is its pid) between Delta's commit of a batch of facts and
    the checkpoint's. Returns the JVM's pid and the batch.

    Each commit of Delta is one new file, and the kernel tells of it at once. The JVM is halted there, and
    what the disk holds decides: where the checkpoint has caught up already, it goes on until the next commit.
    """
    table, checkpoint = layout.lake / "gold" / "fact_sales", layout.state / "lake" / "checkpoints" / "fact"
    jvm = _jvm_of(lake)
    with _Watch(table / "_delta_log") as watch:
        deadline = time.monotonic() + _WITHIN_S
        while time.monotonic() < deadline:
            watch.next()
            os.kill(jvm, signal.SIGSTOP)
            state = CheckpointState.read(checkpoint)
            batch = TableState.read("gold/fact_sales", table, state.query_id).batch
            if batch == state.planned > state.committed:
                return jvm, batch
            os.kill(jvm, signal.SIGCONT)
    raise AssertionError(f"no commit of Delta was ahead of its checkpoint within {_WITHIN_S} s")


def _jvm_of(pid: int) -> int:
    """The child of a process that is a JVM."""
    for task in Path(f"/proc/{pid}/task").iterdir():
        for child in (task / "children").read_text().split():
            if Path(f"/proc/{child}/comm").read_text().strip() == "java":
                return int(child)
    raise AssertionError(f"process {pid} has no JVM")


class _Watch:
    """inotify(7) of new names in a folder."""

    def __init__(self, folder: Path) -> None:
        self._libc = ctypes.CDLL(None, use_errno=True)
        self._file = self._libc.inotify_init1(os.O_CLOEXEC)
        if self._libc.inotify_add_watch(self._file, os.fsencode(folder), _IN_CREATE) < 0:
            raise OSError(ctypes.get_errno(), "inotify_add_watch", str(folder))

    def next(self) -> None:
        """Returns when a commit appears: a name of digits and `.json`."""
        while select.select([self._file], [], [], _WITHIN_S)[0]:
            # One or several events; each ends with its name, padded with zeros.
            for word in os.read(self._file, 65536)[16:].split(b"\0"):
                if word.endswith(b".json") and word[:-5].isdigit():
                    return
        raise AssertionError(f"Delta did not commit within {_WITHIN_S} s")

    def __enter__(self) -> _Watch:
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._file)
