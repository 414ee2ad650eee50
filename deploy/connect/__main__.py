"""`python -m deploy.connect`: keeps the connectors of this folder registered and running.

Runs until it is told to stop. Serves `/health`, `/ready` (503 with the reason while a connector does not
run), `/stats` and `/metrics`.
"""

from __future__ import annotations

import asyncio
import contextlib
import signal
import sys

from deploy.connect import FOLDER
from deploy.connect.keeper import Keeper
from deploy.connect.reconcile import Connector
from deploy.connect.rest import Connect
from deploy.connect.settings import ConnectorsSettings
from streamkit.telemetry import StageServer, StageStats, configure_logging


async def keep(settings: ConnectorsSettings) -> None:
    connectors = [Connector.load(path) for path in sorted(FOLDER.glob("*.json"))]
    stats = StageStats(settings.service)
    keeper = Keeper(settings, connectors, Connect(settings.connect_url), stats)
    with StageServer(stats, settings.http_host, settings.http_port):
        running = asyncio.ensure_future(keeper.run())
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, running.cancel)
        with contextlib.suppress(asyncio.CancelledError):
            await running


def main() -> int:
    settings = ConnectorsSettings()
    configure_logging(settings.service)
    asyncio.run(keep(settings))
    return 0


if __name__ == "__main__":
    sys.exit(main())
