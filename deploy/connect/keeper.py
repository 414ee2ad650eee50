"""Keeps the connectors as their files say, and running.

One look, in order:
1. the database's role exists, with the password that the connectors were given;
2. a connector that is missing, or differs from its file, is configured;
3. one that failed is started again, each time after a longer wait, for ever: what made it fail is repaired
   elsewhere, and its position is kept meanwhile;
4. state and slot are told: ready while every connector runs and the slot is read.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Sequence

import asyncpg

from deploy.connect import source
from deploy.connect.metrics import CdcMetrics
from deploy.connect.reconcile import Action, Backoff, Connector, Observed, action
from deploy.connect.rest import Connect, ConnectRefusedError, ConnectUnavailableError
from deploy.connect.settings import ConnectorsSettings
from deploy.connect.source import Slot
from streamkit.telemetry import StageStats

log = logging.getLogger(__name__)

_HASTE = 10.0
_DATABASE_ERRORS = (OSError, asyncpg.PostgresError, asyncpg.InterfaceError, TimeoutError)


class Keeper:
    def __init__(
        self,
        settings: ConnectorsSettings,
        connectors: Sequence[Connector],
        connect: Connect,
        stats: StageStats,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._settings = settings
        self._connectors = connectors
        self._connect = connect
        self._stats = stats
        self._metrics = CdcMetrics(stats.registry)
        self._clock = clock
        self._backoffs = {connector.name: self._backoff() for connector in connectors}
        self._db: asyncpg.Connection | None = None
        self._prepared = False
        self._was_ready = False

    async def run(self) -> None:
        """Until it is cancelled."""
        while True:
            trouble = await self.look()
            self._tell(trouble)
            poll_s = self._settings.connectors_poll
            await asyncio.sleep(poll_s if trouble is None else poll_s / _HASTE)

    async def look(self) -> str | None:
        """One look; what is not in order, in one line."""
        try:
            if not self._prepared:  # 1
                await source.prepare(self._settings.postgres, self._settings.cdc_password)
                self._prepared = True
            found = await asyncio.to_thread(self._connect.connectors)
            self._metrics.observed(found)
            troubles = [
                trouble
                for connector in self._connectors
                if (trouble := await self._keep(connector, found.get(connector.name)))
            ]
            slot = await self._slot()
        except ConnectUnavailableError as error:
            self._metrics.observed({})
            return f"Kafka Connect does not answer: {error}"
        except _DATABASE_ERRORS as error:
            self._db = None
            return f"Postgres does not answer: {error}"
        self._metrics.slot(slot)  # 4
        return "; ".join(troubles) or slot_trouble(slot)

    async def _keep(self, connector: Connector, found: Observed | None) -> str | None:
        backoff, now_s = self._backoffs[connector.name], self._clock()
        trouble = "is not registered yet" if found is None else found.trouble()
        match action(connector, found):
            case Action.CONFIGURE if backoff.due(now_s):  # 2
                backoff.tried(now_s)
                try:
                    await asyncio.to_thread(self._connect.configure, connector)
                    log.info("connector configured", extra={"connector": connector.name})
                except ConnectRefusedError as error:
                    trouble = f"Connect refuses its configuration: {error}"
            case Action.RESTART if backoff.due(now_s):  # 3
                backoff.tried(now_s)
                self._metrics.restarts.labels(connector.name).inc()
                log.warning("connector restarted", extra={"connector": connector.name, "reason": trouble})
                await asyncio.to_thread(self._connect.restart_failed, connector.name)
            case Action.NOTHING if trouble is None:
                backoff.ran(now_s)
        return None if trouble is None else f"connector {connector.name}: {trouble}"

    async def _slot(self) -> Slot | None:
        if self._db is None or self._db.is_closed():
            self._db = await asyncpg.connect(self._settings.postgres, timeout=5)
        return await source.slot(self._db)

    def _backoff(self) -> Backoff:
        own = self._settings
        return Backoff(own.connectors_first_backoff, own.connectors_max_backoff, own.connectors_settled)

    def _tell(self, trouble: str | None) -> None:
        if trouble is None:
            self._stats.ready()
            self._was_ready = True
        elif self._was_ready or any(backoff.attempts > 2 for backoff in self._backoffs.values()):
            self._stats.degraded(trouble)
        else:
            self._stats.starting(trouble)


def slot_trouble(slot: Slot | None) -> str | None:
    if slot is None:
        return "the connector has not made its replication slot yet"
    if slot.lost:
        return (
            "the replication slot is lost, and with it changes: more was written than max_slot_wal_keep_size "
            "while nothing read it; see docs/runbooks/cdc.md"
        )
    return None if slot.active else "nothing reads the replication slot"
