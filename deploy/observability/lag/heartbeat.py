"""Sends a heartbeat through the front door, now and then; every stage that it reaches measures its age."""

from __future__ import annotations

import logging
import threading
import time
import urllib.request

import numpy as np
from prometheus_client import CollectorRegistry, Counter

from streamkit.latency import LatencyHistogram

log = logging.getLogger(__name__)

_TIMEOUT_S = 10.0


class HeartbeatSender:
    """A context: sends from a thread of its own while it is open. One that fails is counted, not repeated."""

    def __init__(self, ingest_url: str, interval_s: float, registry: CollectorRegistry) -> None:
        """`interval_s`: 0 sends none."""
        self._url = f"{ingest_url.rstrip('/')}/v1/heartbeat"
        self._interval_s = interval_s
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="heartbeat", daemon=True)
        self._sent = Counter(
            "tillstream_heartbeats_sent",
            "Heartbeats by what ingest answered.",
            ["outcome"],
            registry=registry,
        )
        for outcome in ("accepted", "failed"):
            self._sent.labels(outcome)
        self._seconds = LatencyHistogram(
            "tillstream_heartbeat_request_seconds",
            "From sending a heartbeat to ingest's acknowledgement.",
            *("door", ("http",), registry),
        )

    def __enter__(self) -> HeartbeatSender:
        if self._interval_s > 0:
            self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join(_TIMEOUT_S)

    def _run(self) -> None:
        while not self._stop.wait(self._interval_s):
            self.send()

    def send(self) -> bool:
        """Whether it was accepted."""
        began = time.monotonic()
        request = urllib.request.Request(self._url, data=b"", method="POST")  # noqa: S310 - the setting's URL
        try:
            # No proxy of the environment stands between the platform's own processes.
            opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
            with opener.open(request, timeout=_TIMEOUT_S):
                pass
        except (OSError, ValueError) as error:
            self._sent.labels("failed").inc()
            log.warning("heartbeat not accepted", extra={"url": self._url, "error": str(error)})
            return False
        self._sent.labels("accepted").inc()
        self._seconds.add("http", np.array([time.monotonic() - began]))
        return True
