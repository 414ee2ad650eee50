"""Every metric of the ledger: the figures of the last balance of all receipts that was drawn."""

from __future__ import annotations

import time

from prometheus_client import CollectorRegistry, Gauge

from quality_service.ledger.books import Balance


class LedgerMetrics:
    def __init__(self, registry: CollectorRegistry) -> None:
        self._receipts = Gauge(
            "tillstream_ledger_receipts",
            "Receipts by outcome: gold, duplicates, quarantined, resolved.",
            ["outcome"],
            registry=registry,
        )
        self._in_flight = Gauge(
            "tillstream_ledger_in_flight", "Receipts without a final outcome yet.", registry=registry
        )
        self._errors = Gauge(
            "tillstream_ledger_errors",
            "What must be 0: receipts missing; ids doubled, unexpected or differing in the stores.",
            ["figure"],
            registry=registry,
        )
        self._drawn = Gauge(
            "tillstream_ledger_drawn_timestamp_seconds",
            "When the balance was drawn, in seconds since 1970 UTC; 0 before the first.",
            registry=registry,
        )

    def drawn(self, balance: Balance) -> None:
        for outcome in ("gold", "duplicates", "quarantined", "resolved"):
            self._receipts.labels(outcome).set(getattr(balance, outcome))
        self._in_flight.set(balance.in_flight)
        self._errors.labels("missing").set(len(balance.missing))
        for figure in ("doubled", "unexpected", "differing"):
            self._errors.labels(figure).set(getattr(balance, figure))
        self._drawn.set(time.time())
