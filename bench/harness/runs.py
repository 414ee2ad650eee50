"""Run one peer and measure it; run several in turn."""

from __future__ import annotations

import json
import os
import queue
import subprocess
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Final

from bench.harness.procfs import peak_memory_mib, tree_cpu_s
from bench.peers.protocol import Config
from deploy.local.errors import CommandError
from deploy.local.layout import CHECKOUT

_LOG_LINES: Final = 12


@dataclass(frozen=True, slots=True)
class Sample:
    """Wall and CPU time of a peer at one of its events, in seconds."""

    wall_s: float
    cpu_s: float


@dataclass(frozen=True, slots=True)
class Measured:
    """One run. `before_cpu_s` is what starting took, before the first record; the rest counts from there.

    `second_half` is the time of the second half of the records, in which a JVM has warmed up.
    """

    records: int
    wall_s: float
    cpu_s: float
    before_cpu_s: float
    second_half: Sample
    peak_mib: float
    broker_cpu_s: float | None = None

    def per_core(self) -> float:
        """Records per second of CPU time."""
        return self.records / max(self.cpu_s, 1e-9)

    def per_second(self) -> float:
        return self.records / max(self.wall_s, 1e-9)

    def second_half_per_core(self) -> float:
        return (self.records - self.records // 2) / max(self.second_half.cpu_s, 1e-9)


class Process:
    """A peer that runs. Its events come with the time and CPU at which they were read."""

    def __init__(self, command: Sequence[str], config: Path, log: Path) -> None:
        self._log = log
        # One thread each for Polars and Arrow: what is compared is work per core.
        env = {**os.environ, "PYTHONPATH": str(CHECKOUT), "POLARS_MAX_THREADS": "1", "OMP_NUM_THREADS": "1"}
        with log.open("ab") as errors:
            self._process = subprocess.Popen(
                [*command, str(config)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                env=env,
                cwd=CHECKOUT,
            )
        self.pid = self._process.pid
        self._events: queue.Queue[tuple[dict[str, Any], Sample] | None] = queue.Queue()
        threading.Thread(target=self._read, args=(self._process.stdout,), daemon=True).start()

    def _read(self, lines: IO[bytes]) -> None:
        for line in lines:
            now, cpu = time.monotonic(), tree_cpu_s(self.pid)
            if line.startswith(b'{"event"'):
                self._events.put((json.loads(line), Sample(now, cpu)))
        self._events.put(None)

    def wait_for(self, event: str, timeout_s: float) -> tuple[dict[str, Any], Sample]:
        """The next event of this name; others are passed over. Raises CommandError where it does not come."""
        deadline = time.monotonic() + timeout_s
        while True:
            try:
                found = self._events.get(timeout=max(deadline - time.monotonic(), 0.0))
            except queue.Empty:
                raise CommandError(f"no '{event}' within {timeout_s:.0f} s{self.said()}") from None
            if found is None:
                raise CommandError(f"ended before '{event}'{self.said()}")
            if found[0]["event"] == event:
                return found

    def said(self) -> str:
        lines = self._log.read_text(errors="replace").strip().splitlines()[-_LOG_LINES:]
        return ":\n  " + "\n  ".join(lines) if lines else " and said nothing"

    def kill(self) -> None:
        """SIGKILL, as a power cut would."""
        self._process.kill()
        self._process.wait()

    def finish(self, timeout_s: float = 20.0) -> None:
        """Let a peer that has ended go."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        try:
            self._process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            self.kill()


@contextmanager
def running(command: Sequence[str], config: Config, folder: Path, name: str) -> Iterator[Process]:
    """A peer, killed at the end if it is still there."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}.json"
    config.write(path)
    process = Process(command, path, folder / f"{name}.log")
    try:
        yield process
    finally:
        process.kill()


def measure(process: Process, timeout_s: float) -> Measured:
    """Follow a peer from its first record to its end."""
    _, start = process.wait_for("start", timeout_s)
    _, half = process.wait_for("half", timeout_s)
    end, last = process.wait_for("end", timeout_s)
    peak = peak_memory_mib(process.pid)
    process.finish()
    return Measured(
        records=int(end["records"]),
        wall_s=last.wall_s - start.wall_s,
        cpu_s=last.cpu_s - start.cpu_s,
        before_cpu_s=start.cpu_s,
        second_half=Sample(last.wall_s - half.wall_s, last.cpu_s - half.cpu_s),
        peak_mib=peak,
    )
