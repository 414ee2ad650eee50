"""The ledger draws its balance by itself, again and again, and says what is wrong.

A cut reads the stores and the topics one after the other; `LedgerService.balance` answers only what is wrong
in several cuts, so that one answer is enough for an alert.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Final

import asyncpg
from fastapi import HTTPException
from prometheus_client import CollectorRegistry, Gauge

log = logging.getLogger(__name__)

# What passes by itself: a store that is away, or a ledger that is still reading.
_PASSING: Final = (OSError, asyncpg.PostgresError, asyncpg.InterfaceError, HTTPException)
_MOST: Final = 5
_LONGEST_WAIT_S: Final = 40.0

Balance = Callable[[], Awaitable[dict[str, Any]]]


class Watch:
    """`alert` is what is wrong now, for `/ready`; None while the books balance."""

    def __init__(self, balance: Balance, registry: CollectorRegistry, every_s: float) -> None:
        """Between two balances, `every_s` seconds or ten times what the last one took, at most 40 seconds."""
        self.alert: str | None = None
        self._balance = balance
        self._every_s = every_s
        # Ids by what is wrong with them and where.
        self._wrong = Gauge(
            "tillstream_ledger_findings", "Ids that are wrong.", ["kind", "stage"], registry=registry
        )

    async def run(self) -> None:
        """Until it is cancelled."""
        while True:
            begun = time.monotonic()
            await self.check()
            took = time.monotonic() - begun
            await asyncio.sleep(min(max(self._every_s, 10 * took), max(self._every_s, _LONGEST_WAIT_S)))

    async def check(self) -> None:
        """One balance. A store that cannot be read leaves the last finding as it is."""
        try:
            answer = await self._balance()
        except _PASSING as error:
            log.warning("the balance could not be drawn", extra={"reason": str(error)})
            return
        self._tell(answer)

    def _tell(self, answer: dict[str, Any]) -> None:
        alert = None if answer["balanced"] else _alert(answer["findings"])
        if alert != self.alert:
            if alert is None:
                log.info("the books balance again")
            else:
                log.critical("the books do not balance", extra={"findings": answer["findings"]})
        self.alert = alert
        self._wrong.clear()
        for finding in answer["findings"]:
            self._wrong.labels(finding["kind"], finding["stage"]).set(finding["count"])


def _alert(findings: Sequence[dict[str, Any]]) -> str:
    told = "; ".join(finding["told"] for finding in findings[:_MOST])
    return f"the ledger does not balance: {told or 'accepted is not the sum of the outcomes'}"
