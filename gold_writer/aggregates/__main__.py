"""`python -m gold_writer.aggregates`: keep the aggregates until SIGTERM."""

from __future__ import annotations

import sys

from gold_writer.aggregates.bootstrap import Stage
from gold_writer.aggregates.settings import AggregatesSettings
from streamkit.process import run_until_signalled
from streamkit.telemetry import configure_logging


def main() -> int:
    settings = AggregatesSettings()
    configure_logging(settings.service)
    return run_until_signalled(Stage(settings))


if __name__ == "__main__":
    sys.exit(main())
