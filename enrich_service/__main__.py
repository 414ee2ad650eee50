"""`python -m enrich_service`: run enrich until SIGTERM."""

from __future__ import annotations

import sys

from enrich_service.bootstrap import Stage
from enrich_service.settings import EnrichSettings
from streamkit.process import run_until_signalled
from streamkit.telemetry import configure_logging


def main() -> int:
    settings = EnrichSettings()
    configure_logging(settings.service)
    return run_until_signalled(Stage(settings))


if __name__ == "__main__":
    sys.exit(main())
