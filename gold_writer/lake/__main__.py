"""`python -m gold_writer.lake [run | archive | rebuild]`."""

from __future__ import annotations

import argparse
import logging
import signal
import sys
import threading
from types import FrameType

from gold_writer.lake import bootstrap, guard
from gold_writer.lake.job import LakeJob
from gold_writer.lake.settings import LakeSettings
from streamkit.stats import StageStats
from streamkit.telemetry import StageServer, configure_logging

_log = logging.getLogger("gold_writer.lake")


class Terminated(BaseException):
    """SIGTERM before the queries run: nothing to finish."""


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m gold_writer.lake", description=__doc__)
    commands = parser.add_subparsers(dest="command")
    commands.add_parser("run", help="write the lake until stopped (the default)")
    commands.add_parser("archive", help="make the JVM's class archive, which halves the time to start")
    commands.add_parser("rebuild", help="new checkpoints that go on after the last offsets in the tables")
    command = parser.parse_args().command or "run"
    settings = LakeSettings()
    configure_logging(settings.service)
    try:
        return _COMMANDS[command](settings)
    except guard.Refused as refused:
        _log.error(str(refused))
        return 2
    except Terminated:
        return 0
    except Exception:
        _log.exception("the lake writer ends")
        return 1


def _run(settings: LakeSettings) -> int:
    stopping, stats = threading.Event(), StageStats(settings.service)

    def terminate(_signal: int, _frame: FrameType | None) -> None:
        stopping.set()
        if stats.state == "starting":
            raise Terminated

    signal.signal(signal.SIGTERM, terminate)
    signal.signal(signal.SIGINT, terminate)
    with StageServer(stats, settings.http_host, settings.http_port):
        LakeJob(settings, stats, stopping).run()
    return 0


def _archive(settings: LakeSettings) -> int:
    LakeJob(settings, StageStats(settings.service), threading.Event()).record_archive()
    return 0


def _rebuild(settings: LakeSettings) -> int:
    bootstrap.rebuild_all(settings)
    return 0


_COMMANDS = {"run": _run, "archive": _archive, "rebuild": _rebuild}

if __name__ == "__main__":
    sys.exit(main())
