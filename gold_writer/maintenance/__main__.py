"""`python -m gold_writer.maintenance [run | once JOB]`."""

from __future__ import annotations

import argparse
import logging
import sys

from gold_writer.maintenance.bootstrap import Stage
from gold_writer.maintenance.settings import MaintenanceSettings
from streamkit.process import run_until_signalled
from streamkit.telemetry import configure_logging

_log = logging.getLogger("gold_writer.maintenance")


def main() -> int:
    """Exit code 0: done. 1: failed, with the reason in the log. 2: wrong usage."""
    parser = argparse.ArgumentParser(prog="python -m gold_writer.maintenance", description=__doc__)
    verbs = parser.add_subparsers(dest="verb")
    verbs.add_parser("run", help="run the jobs as they come due, until stopped (the default)")
    once = verbs.add_parser("once", help="run one job now and end")
    settings = MaintenanceSettings()
    stage = Stage(settings)
    once.add_argument("job", choices=sorted(job.name for jobs in stage.lanes().values() for job in jobs))
    arguments = parser.parse_args()
    configure_logging(settings.service)
    if arguments.verb != "once":
        return run_until_signalled(stage)
    try:
        stage.run_once(arguments.job)
    except Exception:
        _log.exception("the job failed", extra={"job": arguments.job})
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
