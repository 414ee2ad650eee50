"""Postgres, through asyncpg: one connection, one transaction per batch."""

from __future__ import annotations

import io
import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, TypeVar

import asyncpg

from gold_writer.warehouse import statements
from gold_writer.warehouse.batch import Move, Position, Rows, Write
from streamkit.crashpoints import crash_point
from streamkit.ports import TopicPartition

log = logging.getLogger(__name__)

CONNECT_TIMEOUT_S = 5.0
COMMAND_TIMEOUT_S = 120.0
# How long a transaction may stand still, and how long a lock is waited for. A batch takes a second or two.
STANDSTILL_S = 10.0

Hook = Callable[[str], Awaitable[None]]
_T = TypeVar("_T")


class StoreUnavailable(Exception):  # noqa: N818 - reads as what happened
    """Postgres is away, full or busy. The same call may succeed later; a commit may have happened."""


class AnotherWriter(Exception):  # noqa: N818 - reads as what happened
    """A position in `ops.stream_offsets` is not the one this process left there. Nothing was written."""


class NotMigrated(Exception):  # noqa: N818 - reads as what happened
    """The database lacks our tables."""


# What passes by itself: connection lost, server starting or stopping, no memory, disk or slot left, lock or
# deadlock, a standby that has not been promoted yet. asyncpg's own timeouts are TimeoutError, an OSError.
_PASSING = (
    OSError,
    asyncpg.InterfaceError,
    # "another operation is in progress": what a connection says that was cut while it was idle.
    asyncpg.InternalClientError,
    asyncpg.PostgresConnectionError,
    asyncpg.InsufficientResourcesError,
    asyncpg.OperatorInterventionError,
    asyncpg.TransactionRollbackError,
    asyncpg.LockNotAvailableError,
    asyncpg.ReadOnlySQLTransactionError,
    asyncpg.PostgresIOError,
)


class PostgresStore:
    """The tables `warehouse.*`, `ops.quarantine` and `ops.stream_offsets`. Connects when first used, and
    anew after an error. Every method raises `StoreUnavailable` for what may pass."""

    def __init__(self, dsn: str, consumer: str, before_commit: Hook | None = None) -> None:
        """`consumer` names this consumer's rows in `ops.stream_offsets`. `before_commit` is called with
        "before-commit" inside each transaction, so that a test can die there."""
        self._dsn = dsn
        self._consumer = consumer
        self._before_commit = before_commit
        self._connection: Any = None
        self._calendar: set[int] = set()

    async def positions(self, topic_ids: Mapping[TopicPartition, str]) -> dict[TopicPartition, Position]:
        """The stored position of each partition; one that is new gets offset 0 under the topic id given."""

        async def load(connection: Any) -> dict[TopicPartition, Position]:
            wanted = sorted(topic_ids)
            await connection.execute(
                statements.FIRST_POSITIONS,
                self._consumer,
                [tp.topic for tp in wanted],
                [tp.partition for tp in wanted],
                [topic_ids[tp] for tp in wanted],
            )
            rows = await connection.fetch(
                statements.KNOWN_POSITIONS, self._consumer, sorted({tp.topic for tp in wanted})
            )
            stored = {
                TopicPartition(row["topic"], row["partition"]): Position(row["topic_id"], row["next_offset"])
                for row in rows
            }
            return {tp: stored[tp] for tp in wanted}

        return await self._attempt(load)

    async def write(self, write: Write) -> None:
        """Store the rows and move the positions, all or nothing.

        Raises `AnotherWriter` where a position is not as expected. After `StoreUnavailable` the positions
        must be read again: the commit may have happened, and its answer been lost.
        """
        await self._attempt(lambda connection: self._write(connection, write))
        if write.sales is not None:
            self._calendar.update(write.sales.date_keys)

    async def close(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.terminate()

    async def _write(self, connection: Any, write: Write) -> None:
        # The numbers are those of the protocol in sink.py.
        async with connection.transaction():  # 3
            crash_point("warehouse-after-begin")
            await self._move(connection, write.moves)  # 4
            crash_point("warehouse-after-move")
            if write.sales is not None:
                await self._ensure_calendar(connection, write.sales.date_keys)  # 5
                crash_point("warehouse-after-calendar")
                await _copy(connection, statements.STAGED_SALES, write.sales)  # 6
                crash_point("warehouse-after-copy")
                await connection.execute(statements.UPSERT_SALES)  # 7
            if write.quarantine is not None:
                await _copy(connection, statements.STAGED_QUARANTINE, write.quarantine)  # 6
                await connection.execute(statements.UPSERT_QUARANTINE)  # 7
            for versions in write.versions:
                await _copy(connection, versions.table.staged, versions)  # 6
                await connection.execute(versions.table.remove, versions.withdrawn)  # 7
                await connection.execute(versions.table.upsert)
            crash_point("warehouse-after-upsert")
            if self._before_commit is not None:
                await self._before_commit("before-commit")
        # 8: leaving the block commits.

    async def _move(self, connection: Any, moves: Sequence[Move]) -> None:
        status = await connection.execute(
            statements.MOVE_POSITIONS,
            self._consumer,
            [move.partition.topic for move in moves],
            [move.partition.partition for move in moves],
            [move.topic_id for move in moves],
            [move.expected for move in moves],
            [move.following for move in moves],
        )
        if status != f"UPDATE {len(moves)}":
            raise AnotherWriter(
                "a position in ops.stream_offsets was moved by another writer; expected "
                + ", ".join(f"{m.partition.topic}[{m.partition.partition}]@{m.expected}" for m in moves)
            )

    async def _ensure_calendar(self, connection: Any, date_keys: Sequence[int]) -> None:
        new = [key for key in date_keys if key not in self._calendar]
        if new:
            months = sorted({key // 100 * 100 + 1 for key in new})
            await connection.execute(statements.ENSURE_CALENDAR, new, months)

    async def _attempt(self, call: Callable[[Any], Awaitable[_T]]) -> _T:
        try:
            connection = self._connection or await self._connect()
            return await call(connection)
        except _PASSING as error:
            if isinstance(error, asyncpg.LockNotAvailableError):
                await self._end_standing_still()
            await self.close()
            raise StoreUnavailable(f"Postgres: {type(error).__name__}: {error}") from error
        except asyncpg.UndefinedTableError as error:
            await self.close()
            raise NotMigrated(f"{error}: run `python -m deploy.postgres migrate` first") from error
        except BaseException:
            await self.close()
            raise

    async def _end_standing_still(self) -> None:
        """Free what another session of this writer holds that has waited for its client too long. Its process
        finds its connection cut, and what it held back already stored."""
        try:
            ended = await self._connection.fetch(
                statements.END_STANDING_STILL, self._consumer, STANDSTILL_S * 0.9
            )
        except _PASSING as error:
            log.warning("sessions that stand still not ended", extra={"error": str(error)})
        else:
            if ended:
                log.warning("ended sessions of this writer that stood still", extra={"sessions": len(ended)})

    async def _connect(self) -> Any:
        self._calendar.clear()
        connection = await asyncpg.connect(
            self._dsn,
            timeout=CONNECT_TIMEOUT_S,
            command_timeout=COMMAND_TIMEOUT_S,
            server_settings={"application_name": self._consumer, "timezone": "UTC"},
        )
        try:
            await connection.execute(statements.SESSION)
            await connection.execute(statements.PATIENCE, f"{STANDSTILL_S:g}s")
        except BaseException:
            connection.terminate()
            raise
        self._connection = connection
        return connection


async def _copy(connection: Any, table: str, rows: Rows) -> None:
    await connection.copy_to_table(table, source=io.BytesIO(rows.csv), format="csv")
