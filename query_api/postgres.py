"""The adapter to Postgres: a read-only pool whose failures are told in the API's own terms."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from typing import Any

import asyncpg

from query_api.errors import BadInputError, StoreUnavailableError, TooMuchError
from query_api.metrics import Metrics

Row = asyncpg.Record

_ATTEMPTS = 3
"""A restarted server leaves stale connections in the pool; reading again is harmless."""

UNREACHABLE = (
    asyncpg.PostgresConnectionError,
    asyncpg.OperatorInterventionError,  # shutting down, starting up
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,
    asyncpg.InsufficientResourcesError,  # too many connections
    asyncpg.InvalidAuthorizationSpecificationError,
    OSError,
)
NOT_MIGRATED = (
    asyncpg.UndefinedTableError,
    asyncpg.UndefinedColumnError,
    asyncpg.InvalidSchemaNameError,
    asyncpg.InvalidCatalogNameError,
)


class Store:
    """Runs single read statements. Opens connections when they are needed, so it may be constructed and
    used while Postgres is down; calls then raise `StoreUnavailableError` until it is back.

    Times are in seconds. `statement_timeout` is enforced by the server, and a little later by the client
    for a server that hangs.
    """

    def __init__(
        self,
        dsn: str,
        metrics: Metrics,
        *,
        pool_max: int = 8,
        connect_timeout: float = 2.0,
        statement_timeout: float = 10.0,
    ) -> None:
        self._dsn = dsn
        self._metrics = metrics
        self._pool_max = pool_max
        self._connect_timeout = connect_timeout
        self._statement_timeout = statement_timeout
        self._pool: asyncpg.Pool | None = None
        self._opening = asyncio.Lock()

    async def rows(self, sql: str, *args: Any) -> Sequence[Row]:
        """Raises `StoreUnavailableError`, `TooMuchError` (statement timeout) or `BadInputError`."""
        begun = time.perf_counter()
        try:
            return await self._attempt(sql, args)
        except asyncpg.QueryCanceledError:
            raise TooMuchError(
                f"the answer took longer than {self._statement_timeout:g} s: ask for a shorter range"
            ) from None
        except asyncpg.DataError as error:
            raise BadInputError(f"a value cannot be used: {error}") from None
        except NOT_MIGRATED as error:
            raise StoreUnavailableError("the warehouse's tables are not there yet") from error
        except TimeoutError as error:
            raise StoreUnavailableError("Postgres does not answer in time") from error
        except UNREACHABLE as error:
            raise StoreUnavailableError("Postgres does not answer") from error
        finally:
            self._metrics.postgres_seconds.observe(time.perf_counter() - begun)

    async def row(self, sql: str, *args: Any) -> Row | None:
        """The first row, or None."""
        found = await self.rows(sql, *args)
        return found[0] if found else None

    async def snapshot(self) -> str:
        """Names what is visible now: as long as this text is the same, so is every answer."""
        row = await self.row("SELECT pg_current_snapshot()::text")
        return str(row[0]) if row else ""

    async def ping(self) -> None:
        """Raises `StoreUnavailableError` unless the fact table can be read."""
        await self.rows("SELECT 1 FROM warehouse.fact_sales LIMIT 0")

    async def close(self) -> None:
        if self._pool is not None:
            self._pool.terminate()

    async def _attempt(self, sql: str, args: tuple[Any, ...]) -> list[Row]:
        for attempt in range(1, _ATTEMPTS + 1):
            try:
                pool = self._pool or await self._open()
                async with pool.acquire(timeout=self._connect_timeout) as connection:
                    found: list[Row] = await connection.fetch(
                        sql, *args, timeout=self._statement_timeout + 1.0
                    )
                    return found
            except (asyncpg.DataError, asyncpg.QueryCanceledError, TimeoutError):
                raise
            except ConnectionRefusedError:
                raise
            except UNREACHABLE:
                if attempt == _ATTEMPTS:
                    raise
        raise AssertionError("unreachable")

    async def _open(self) -> asyncpg.Pool:
        async with self._opening:
            if self._pool is None:
                self._pool = await asyncpg.create_pool(
                    self._dsn,
                    min_size=0,
                    max_size=self._pool_max,
                    timeout=self._connect_timeout,
                    # Connections carry no session state: the default reset is a round trip per statement.
                    reset=_keep,
                    server_settings={
                        "application_name": "tillstream-query",
                        "default_transaction_read_only": "on",
                        "statement_timeout": str(round(self._statement_timeout * 1000)),
                        "timezone": "UTC",
                        # Compiling costs more than these statements run.
                        "jit": "off",
                        "work_mem": "32MB",
                    },
                )
            return self._pool


async def _keep(_connection: Any) -> None:
    return None
