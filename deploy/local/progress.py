"""Steps with their times, on standard error: a live list on a terminal, one line each elsewhere."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID


class Steps:
    """Thread-safe: steps may run side by side. Use as a context manager."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._started = time.monotonic()
        self._live: Progress | None = _live_display()

    def __enter__(self) -> Steps:
        if self._live is not None:
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._live is not None:
            self._live.stop()

    @property
    def elapsed_s(self) -> float:
        return time.monotonic() - self._started

    @contextmanager
    def step(self, title: str, *, announce: bool = False) -> Iterator[None]:
        """Name the step while it runs, then its time. `announce`: a plain line at the start too."""
        task = self._begin(title, announce)
        started = time.monotonic()
        try:
            yield
        except BaseException:
            self._end(task, title, "failed", time.monotonic() - started)
            raise
        self._end(task, title, "ok", time.monotonic() - started)

    def note(self, text: str) -> None:
        """A line of its own between the steps."""
        with self._lock:
            self._write(f"        {text}")

    def _begin(self, title: str, announce: bool) -> TaskID | None:
        if self._live is not None:
            return self._live.add_task(title, total=None)
        if announce:
            with self._lock:
                self._write(f"        {title} ...")
        return None

    def _end(self, task: TaskID | None, title: str, outcome: str, seconds: float) -> None:
        with self._lock:
            if self._live is not None and task is not None:
                self._live.remove_task(task)
            self._write(f"{outcome:>6}  {title:<40} {seconds:6.1f} s")

    def _write(self, line: str) -> None:
        if self._live is not None:
            self._live.console.print(line, highlight=False, markup=False)
        else:
            print(line, file=sys.stderr, flush=True)


def _live_display() -> Any:
    """rich's, when it is installed already and standard error is a terminal."""
    if not sys.stderr.isatty():
        return None
    try:
        from rich.console import Console
        from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
    except ImportError:
        return None
    return Progress(
        SpinnerColumn(),
        TextColumn("{task.description}"),
        TimeElapsedColumn(),
        console=Console(stderr=True),
        transient=True,
    )
