"""`python -m ingest_service`."""

from __future__ import annotations

import uvicorn

from ingest_service.bootstrap import build_app
from ingest_service.settings import IngestSettings
from streamkit.telemetry import configure_logging


def main() -> None:
    settings = IngestSettings()
    configure_logging(settings.service)
    uvicorn.run(
        build_app(settings),
        host=settings.http_host,
        port=settings.http_port,
        loop="uvloop",
        http="httptools",
        log_config=None,
        access_log=False,
        server_header=False,
        # A request waits for the broker at most this long, see ingest_produce_timeout.
        timeout_graceful_shutdown=int(settings.ingest_produce_timeout) + 2,
    )


if __name__ == "__main__":
    main()
