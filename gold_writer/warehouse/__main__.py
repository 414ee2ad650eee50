"""`python -m gold_writer.warehouse`: run the warehouse writer until SIGTERM."""

from __future__ import annotations

import sys

from gold_writer.warehouse.bootstrap import Stage
from gold_writer.warehouse.settings import WarehouseSettings
from streamkit.process import run_until_signalled
from streamkit.telemetry import configure_logging


def main() -> int:
    settings = WarehouseSettings()
    configure_logging(settings.service)
    return run_until_signalled(Stage(settings))


if __name__ == "__main__":
    sys.exit(main())
