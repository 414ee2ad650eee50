"""`python -m quality_service.ledger`"""

from __future__ import annotations

import sys

import uvicorn

from quality_service.ledger.bootstrap import build
from quality_service.ledger.settings import LedgerSettings
from streamkit.telemetry import configure_logging


def main() -> int:
    settings = LedgerSettings()
    configure_logging(settings.service)
    app = build(settings)
    server = uvicorn.Server(
        uvicorn.Config(app, settings.http_host, settings.http_port, log_config=None, access_log=False)
    )
    server.run()
    return 0 if server.started and not app.state.failed() else 1


if __name__ == "__main__":
    sys.exit(main())
