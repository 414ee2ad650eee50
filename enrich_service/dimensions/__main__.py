"""`python -m enrich_service.dimensions`: build the dimensions until SIGTERM."""

from __future__ import annotations

import sys

from enrich_service.dimensions.bootstrap import Stage
from enrich_service.dimensions.settings import DimensionsSettings
from streamkit.process import run_until_signalled
from streamkit.telemetry import configure_logging


def main() -> int:
    settings = DimensionsSettings()
    configure_logging(settings.service)
    return run_until_signalled(Stage(settings))


if __name__ == "__main__":
    sys.exit(main())
