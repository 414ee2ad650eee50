"""`ops.quarantine_replays`: who asked for what to be replayed, and how far it got."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import asyncpg
import orjson

from query_api.errors import StoreUnavailableError

_BEGUN: Final = """
INSERT INTO ops.quarantine_replays (replay_id, condition, assignments, requested_by) VALUES ($1, $2, $3, $4)
"""
_ADVANCED: Final = """
UPDATE ops.quarantine_replays
SET matched = $2, sent = $3, skipped = $4, state = $5, error = $6,
    finished_at = CASE WHEN $5 <> 'running' THEN clock_timestamp() END
WHERE replay_id = $1
"""
_PASSING: Final = (OSError, asyncpg.PostgresError, asyncpg.InterfaceError)


class Journal:
    """Replays are rare, so each entry opens a connection of its own: the API's pool is read-only."""

    def __init__(self, dsn: str, timeout_s: float = 5.0) -> None:
        self._dsn = dsn
        self._timeout_s = timeout_s

    async def begun(
        self, replay_id: str, condition: str, assignments: Mapping[str, str], requested_by: str
    ) -> None:
        """Raises `StoreUnavailableError`: what is not written down is not begun."""
        set_ = orjson.dumps(dict(assignments)).decode()
        await self._execute(_BEGUN, replay_id, condition, set_, requested_by)

    async def advanced(
        self, replay_id: str, *, matched: int, sent: int, skipped: int, state: str, error: str | None
    ) -> None:
        await self._execute(_ADVANCED, replay_id, matched, sent, skipped, state, error)

    async def _execute(self, sql: str, *arguments: Any) -> None:
        try:
            connection = await asyncpg.connect(self._dsn, timeout=self._timeout_s)
            try:
                await connection.execute(sql, *arguments, timeout=self._timeout_s)
            finally:
                await connection.close()
        except _PASSING as error:
            raise StoreUnavailableError("Postgres does not answer") from error
