"""`python -m quality_service`: run quality until SIGTERM."""

from __future__ import annotations

import sys

from quality_service.bootstrap import Stage
from quality_service.settings import QualitySettings
from streamkit.process import run_until_signalled
from streamkit.telemetry import configure_logging


def main() -> int:
    settings = QualitySettings()
    configure_logging(settings.service)
    return run_until_signalled(Stage(settings))


if __name__ == "__main__":
    sys.exit(main())
