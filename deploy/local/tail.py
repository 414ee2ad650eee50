"""Show the ends of log files and follow them through rotation."""

from __future__ import annotations

import sys
import time
from collections import deque
from collections.abc import Mapping
from pathlib import Path
from typing import IO

_POLL_S = 0.3


def show_logs(files: Mapping[str, Path], lines: int, *, follow: bool) -> int:
    """Print the last `lines` of each file, with its name before each line when there are several."""
    tails = [_Tail(path, f"{name:<12}" if len(files) > 1 else "") for name, path in files.items()]
    for tail in tails:
        tail.last(lines)
    if not follow:
        return 0
    try:
        while True:
            added = [tail.more() for tail in tails]
            if not any(added):
                time.sleep(_POLL_S)
    except KeyboardInterrupt:
        return 0
    finally:
        for tail in tails:
            tail.close()


class _Tail:
    def __init__(self, path: Path, prefix: str) -> None:
        self._path = path
        self._prefix = prefix
        self._file: IO[str] | None = None
        self._inode = 0

    def last(self, lines: int) -> None:
        file = self._open()
        if file is not None:
            self._print(deque(file, maxlen=lines))

    def more(self) -> bool:
        """Print what was added; whether there was anything."""
        file = self._file
        if file is not None and (added := file.readlines()):
            self._print(added)
            return True
        if file is None or self._rotated():
            self.close()
            return self._open() is not None
        return False

    def close(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None

    def _rotated(self) -> bool:
        try:
            return self._path.stat().st_ino != self._inode
        except OSError:
            return False

    def _open(self) -> IO[str] | None:
        try:
            self._file = self._path.open(errors="replace")
        except OSError:
            return None
        self._inode = self._path.stat().st_ino
        return self._file

    def _print(self, lines: list[str] | deque[str]) -> None:
        sys.stdout.writelines(f"{self._prefix}{line.rstrip()}\n" for line in lines)
        sys.stdout.flush()
