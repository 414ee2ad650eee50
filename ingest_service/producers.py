"""A producer that outlives its client's fatal errors."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence

from streamkit.ports import BrokerError, OutputBatch, Producer

log = logging.getLogger(__name__)


class RenewedProducer:
    """After an error that no retry can mend, the next call gets a new client: an idempotent producer that
    has lost its sequence refuses every later record. Thread-safe, if the clients are."""

    def __init__(self, make: Callable[[], Producer]) -> None:
        self._make = make
        self._lock = threading.Lock()
        self._client = make()

    def produce(self, batches: Sequence[OutputBatch], timeout_s: float) -> None:
        client = self._client
        try:
            client.produce(batches, timeout_s)
        except BrokerError as error:
            if not error.retriable:
                self._renew(client, error)
            raise

    def close(self) -> None:
        self._client.close()

    def _renew(self, failed: Producer, error: BrokerError) -> None:
        with self._lock:
            if self._client is failed:
                log.error("the producer failed and is replaced", extra={"error": str(error)})
                # Not closed here: other threads may still wait in it. It goes when the last of them leaves.
                self._client = self._make()
