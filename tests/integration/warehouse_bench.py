"""A warehouse of its own for a test: a migrated database, a sink on it, and questions about it."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any
from urllib.parse import urlsplit

import asyncpg
from prometheus_client import CollectorRegistry

from gold_writer.warehouse.dimensions import TABLES
from gold_writer.warehouse.metrics import WarehouseMetrics
from gold_writer.warehouse.pipeline import ENRICHED, QUARANTINED, WarehousePipeline
from gold_writer.warehouse.sink import WarehouseSink
from gold_writer.warehouse.store import Hook, PostgresStore
from streamkit.clock import SystemClock
from streamkit.ports import TopicPartition
from tests.unit.warehouse.warehouse_records import Records

PARTITIONS = [TopicPartition(topic, p) for topic in (ENRICHED, QUARANTINED) for p in range(2)]
CONSUMER = "test"


def with_database(dsn: str, name: str) -> str:
    """The DSN of another database on the same server."""
    return urlsplit(dsn)._replace(path=f"/{name}").geturl()


class Warehouse:
    """One database. Every sink is a writer of its own, as if in a process of its own."""

    def __init__(self, dsn: str) -> None:
        self.dsn = dsn
        self.records = Records()
        self._sinks: list[WarehouseSink] = []

    def sink(
        self,
        *,
        topic_id: str = "topic-a",
        before_commit: Hook | None = None,
        partitions: Sequence[TopicPartition] = PARTITIONS,
        consumer: str = CONSUMER,
        pipeline: WarehousePipeline | None = None,
    ) -> WarehouseSink:
        """A started writer."""
        sink = WarehouseSink(
            PostgresStore(self.dsn, consumer, before_commit),
            pipeline or self.records.pipeline(),
            lambda topics: dict.fromkeys(topics, topic_id),
            metrics=WarehouseMetrics(CollectorRegistry()),
            clock=SystemClock(),
        )
        self._sinks.append(sink)
        dimensions = [TopicPartition(table.dimension.topic, 0) for table in TABLES] if pipeline else []
        sink.start_offsets([*partitions, *dimensions])
        return sink

    def rows(self, query: str, *arguments: object) -> list[tuple[Any, ...]]:
        async def ask() -> list[tuple[Any, ...]]:
            connection = await asyncpg.connect(self.dsn)
            try:
                return [tuple(row) for row in await connection.fetch(query, *arguments)]
            finally:
                await connection.close()

        return asyncio.run(ask())

    def run(self, statement: str) -> None:
        async def do() -> None:
            connection = await asyncpg.connect(self.dsn)
            try:
                await connection.execute(statement)
            finally:
                await connection.close()

        asyncio.run(do())

    def everything(self) -> dict[str, list[tuple[Any, ...]]]:
        """All rows of all tables that a batch may touch, but for the positions."""
        tables = ("fact_sales", "dim_customers", "dim_products", "dim_invoice", "dim_date")
        queries = {table: f"SELECT * FROM warehouse.{table} ORDER BY 1, 2" for table in tables}
        queries["quarantine"] = "SELECT * FROM ops.quarantine ORDER BY 1"
        return {table: self.rows(query) for table, query in queries.items()}

    def positions(self) -> dict[TopicPartition, int]:
        query = "SELECT topic, partition, next_offset FROM ops.stream_offsets WHERE next_offset > 0"
        return {TopicPartition(topic, p): offset for topic, p, offset in self.rows(query)}

    def close(self) -> None:
        for sink in self._sinks:
            sink.close()
