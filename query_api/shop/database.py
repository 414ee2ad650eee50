"""The adapter that writes to `shop`: transactions whose failures are told in the API's own terms."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Sequence
from typing import Any

import asyncpg

from query_api.errors import (
    ApiError,
    BadInputError,
    ConflictError,
    InvalidBodyError,
    OutcomeUnknownError,
    StoreUnavailableError,
)
from query_api.postgres import NOT_MIGRATED, UNREACHABLE

log = logging.getLogger(__name__)

Connection = Any  # asyncpg's pool hands out proxies, which no one type covers

_ATTEMPTS = 3
_TOLD = {
    "price_list_no_overlap": "another price of this product and currency holds at the same time",
}


class Database:
    """Opens connections when they are needed, so it may be constructed while Postgres is down."""

    def __init__(
        self, dsn: str, *, pool_max: int = 4, connect_timeout: float = 2.0, statement_timeout: float = 10.0
    ) -> None:
        self._dsn = dsn
        self._pool_max = pool_max
        self._connect_timeout = connect_timeout
        self._statement_timeout = statement_timeout
        self._pool: asyncpg.Pool | None = None
        self._opening = asyncio.Lock()

    @contextlib.asynccontextmanager
    async def transaction(self, *, read_only: bool = False) -> AsyncIterator[Connection]:
        """A transaction that commits at the end of the block and rolls back on an exception.

        Raises StoreUnavailableError where nothing was changed, OutcomeUnknownError where the connection was
        lost while the commit was under way, ConflictError, InvalidBodyError and BadInputError for what the
        tables refuse.
        """
        connection, transaction = await self._begin(read_only)
        pool, committing = self._pool, False
        assert pool is not None
        try:
            try:
                yield connection
                committing = True
                await transaction.commit()
            except BaseException:
                if not committing:
                    with contextlib.suppress(asyncpg.PostgresError, asyncpg.InterfaceError, OSError):
                        await transaction.rollback()
                raise
        except (asyncpg.PostgresError, asyncpg.InterfaceError, OSError, TimeoutError) as error:
            raise _told(error, committing) from error
        finally:
            with contextlib.suppress(asyncpg.InterfaceError, OSError):
                await pool.release(connection)

    async def close(self) -> None:
        if self._pool is not None:
            self._pool.terminate()

    async def _begin(self, read_only: bool) -> tuple[Connection, Any]:
        """A restarted server leaves stale connections in the pool; beginning again is harmless."""
        for attempt in range(1, _ATTEMPTS + 1):
            connection = None
            try:
                pool = self._pool or await self._open()
                connection = await pool.acquire(timeout=self._connect_timeout)
                transaction = connection.transaction(readonly=read_only)
                await transaction.start()
                return connection, transaction
            except (*UNREACHABLE, TimeoutError) as error:
                if connection is not None:
                    with contextlib.suppress(asyncpg.InterfaceError, OSError):
                        await self._pool.release(connection)  # type: ignore[union-attr]
                if attempt == _ATTEMPTS or isinstance(error, ConnectionRefusedError | TimeoutError):
                    raise StoreUnavailableError("Postgres does not answer") from error
        raise AssertionError("unreachable")

    async def _open(self) -> asyncpg.Pool:
        async with self._opening:
            if self._pool is None:
                self._pool = await asyncpg.create_pool(
                    self._dsn,
                    min_size=0,
                    max_size=self._pool_max,
                    timeout=self._connect_timeout,
                    command_timeout=self._statement_timeout + 1.0,
                    server_settings={
                        "application_name": "tillstream-shop",
                        "statement_timeout": str(round(self._statement_timeout * 1000)),
                        "idle_in_transaction_session_timeout": "10000",
                        "timezone": "UTC",
                    },
                )
            return self._pool


def _told(error: BaseException, committing: bool) -> Exception:
    if (refusal := _refusal(error)) is not None:
        return refusal
    log.warning("transaction failed", exc_info=error)
    if committing:
        return OutcomeUnknownError("the connection was lost while the change was being written")
    return StoreUnavailableError("Postgres does not answer")


def _refusal(error: BaseException) -> ApiError | None:
    """What the tables have against the request; None where that is not what failed."""
    told: ApiError | None = None
    match error:
        case asyncpg.UniqueViolationError():
            told = ConflictError("it exists already")
        case asyncpg.ExclusionViolationError():
            told = ConflictError(_TOLD.get(str(error.constraint_name), "it overlaps with another"))
        case asyncpg.ForeignKeyViolationError():
            told = InvalidBodyError([("/stock_code", "there is no such product")])
        case asyncpg.CheckViolationError():
            told = InvalidBodyError([("", f"the table refuses it: {error.constraint_name}")])
        case asyncpg.SerializationError() | asyncpg.DeadlockDetectedError():
            told = StoreUnavailableError("another request was in the way; send it again")
        case asyncpg.DataError():
            told = BadInputError(f"a value cannot be used: {error}")
        case asyncpg.PostgresError() if isinstance(error, NOT_MIGRATED):
            told = StoreUnavailableError("the shop's tables are not there yet")
    return told


def rows(found: Sequence[Any]) -> list[dict[str, Any]]:
    return [dict(row) for row in found]
