"""`python -m query_api`: serves until it is told to stop (SIGTERM or SIGINT)."""

from __future__ import annotations

import uvicorn

from query_api.bootstrap import build
from query_api.settings import QuerySettings
from streamkit.telemetry import configure_logging


def main() -> None:
    settings = QuerySettings()
    configure_logging(settings.service)
    uvicorn.run(
        build(settings),
        host=settings.http_host,
        port=settings.http_port,
        log_config=None,
        access_log=False,
        ws_max_size=settings.query_max_body_bytes,
        # The messages are small; a compressor for each client would cost more memory than it saves traffic.
        ws_per_message_deflate=False,
        timeout_graceful_shutdown=5,
    )


if __name__ == "__main__":
    main()
