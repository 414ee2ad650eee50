"""`python -m deploy.observability.lag`: run the lag exporter until SIGTERM."""

from __future__ import annotations

import sys

from deploy.observability.lag.bootstrap import Exporter
from deploy.observability.lag.settings import LagSettings
from streamkit.process import run_until_signalled
from streamkit.telemetry import configure_logging


def main() -> int:
    settings = LagSettings()
    configure_logging(settings.service)
    return run_until_signalled(Exporter(settings))


if __name__ == "__main__":
    sys.exit(main())
