"""A stage as a process: signals and exit codes."""

from __future__ import annotations

import logging
import signal
from typing import Protocol

log = logging.getLogger(__name__)


class Runnable(Protocol):
    def run(self) -> None: ...

    def stop(self) -> None: ...


def run_until_signalled(runnable: Runnable) -> int:
    """Run in the main thread until SIGTERM or SIGINT; the exit code is 0 then, and 1 after an exception.

    A second signal ends the process at once, as the operating system does it.
    """

    def stop(number: int, _: object) -> None:
        log.info("stopping", extra={"signal": signal.Signals(number).name})
        for each in (signal.SIGTERM, signal.SIGINT):
            signal.signal(each, signal.SIG_DFL)
        runnable.stop()

    for each in (signal.SIGTERM, signal.SIGINT):
        signal.signal(each, stop)
    try:
        runnable.run()
    except Exception:
        log.critical("stage failed", exc_info=True)
        return 1
    log.info("stopped")
    return 0
