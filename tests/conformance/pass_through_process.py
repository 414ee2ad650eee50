"""A stage of its own process that kills itself at a crash point: `SOURCE TARGET GROUP ENGINE POINT PASSES`.

POINT `none` lets it run until it is signalled.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Sequence
from typing import cast

from streamkit import crashpoints
from streamkit.clock import SystemClock
from streamkit.kafka import Clients, Engine
from streamkit.limits import Limits
from streamkit.ports import OutputBatch, RecordBatch
from streamkit.process import run_until_signalled
from streamkit.runner import Runner
from streamkit.stats import StageStats
from streamkit.telemetry import configure_logging


class PassThrough:
    def __init__(self, target: str) -> None:
        self._target = target

    def process(self, batch: RecordBatch) -> Sequence[OutputBatch]:
        return [OutputBatch(self._target, batch.value, batch.key, batch.headers)]


def main() -> int:
    bootstrap, source, target, group, engine, point, passes = sys.argv[1:]
    clients = Clients(bootstrap, cast(Engine, engine))
    configure_logging("pass-through")
    left = int(passes)

    def die(name: str) -> None:
        nonlocal left
        if name == point:
            left -= 1
            if left == 0:
                os.kill(os.getpid(), signal.SIGKILL)

    crashpoints.arm(die)
    runner = Runner(
        clients.consumer(group, group),
        clients.transactional(group),
        PassThrough(target),
        topics=[source],
        stats=StageStats("pass-through"),
        clock=SystemClock(),
        limits=Limits(max_records=50),
    )
    return run_until_signalled(runner)


if __name__ == "__main__":
    raise SystemExit(main())
