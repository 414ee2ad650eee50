"""Positions that a sink keeps beside its rows in Postgres (`ops.stream_offsets`)."""

from __future__ import annotations

import asyncio

import asyncpg

from deploy.observability.lag.model import Position
from streamkit.ports import TopicPartition

_POSITIONS = "SELECT consumer, topic, partition, topic_id, next_offset FROM ops.stream_offsets"
_TIMEOUT_S = 2.0


class PostgresPositions:
    """`pipeline.Elsewhere` of the table; a consumer's name is its group's. One connection, kept."""

    def __init__(self, dsn: str) -> None:
        self._dsn = dsn
        self._loop = asyncio.Runner()
        self._connection: asyncpg.Connection | None = None

    def __call__(self) -> list[Position]:
        """Raises OSError while Postgres, or the table, is not there."""
        try:
            rows = self._loop.run(self._ask())
        except (OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError) as error:
            self._forget()
            raise OSError(f"ops.stream_offsets: {type(error).__name__}: {error}") from error
        return [
            Position(
                group=row["consumer"],
                partition=TopicPartition(row["topic"], row["partition"]),
                offset=row["next_offset"],
                topic_id=row["topic_id"],
            )
            for row in rows
        ]

    def close(self) -> None:
        self._forget()
        self._loop.close()

    async def _ask(self) -> list[asyncpg.Record]:
        if self._connection is None:
            self._connection = await asyncpg.connect(
                self._dsn, timeout=_TIMEOUT_S, server_settings={"application_name": "tillstream.lag"}
            )
        rows: list[asyncpg.Record] = await self._connection.fetch(_POSITIONS, timeout=_TIMEOUT_S)
        return rows

    def _forget(self) -> None:
        if self._connection is not None:
            self._connection.terminate()
            self._connection = None
