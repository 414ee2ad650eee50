"""The ledger over real stores: a row that is deleted, doubled or forged is named, with its store.

Kafka's part is in memory; the lake is a Delta table and the warehouse a Postgres, as the services leave them.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import asyncpg
import polars as pl
import pytest
from deltalake import DeltaTable
from prometheus_client import CollectorRegistry

from deploy.micro.chain import ENRICHED, Chain
from quality_service.ledger.follow import TOPICS, Follower
from quality_service.ledger.service import LedgerService
from quality_service.ledger.stores import LakeFacts
from quality_service.ledger.watch import Watch
from streamkit.memory import MemoryConsumer
from tests.integration.query_api_harness import database
from tests.integration.test_quarantine_replay import World

pytestmark = pytest.mark.integration


class Books:
    """A small platform at rest, and the ledger that follows it."""

    def __init__(self, world: World, lake: Path) -> None:
        self.world = world
        self.chain: Chain = world.chain
        self.table = lake / "gold" / "fact_sales"
        good = self.chain.good()
        records = self.chain.broker.committed_records(ENRICHED)
        assert good.height == len(records)
        facts = good.select(
            "event_id",
            "revision",
            pl.Series("partition", [0] * good.height, dtype=pl.Int32),
            pl.Series("offset", range(good.height), dtype=pl.Int64),
            pl.col("ingest_ts").dt.replace_time_zone("UTC").dt.cast_time_unit("us"),
            total_amount=(pl.col("total_amount_micros") / 1_000_000).cast(pl.Decimal(20, 6)),
        )
        facts.write_delta(str(self.table))
        self.follower = Follower(
            MemoryConsumer(self.chain.broker, "test.ledger"), {t: self.chain.codec(t) for t in TOPICS}
        )
        self.follower.start()
        self.lake = lake

    def alert(self) -> str | None:
        """What one look of the ledger finds."""

        async def look() -> str | None:
            async with asyncpg.create_pool(self.world.dsn, min_size=1, max_size=1) as pool:
                service = LedgerService(self.follower, LakeFacts(self.lake), pool, self._enriched)
                watch = Watch(lambda: service.balance(None), CollectorRegistry(), 15)
                await watch.check()
                return watch.alert

        return asyncio.run(look())

    def _enriched(self) -> dict[int, int]:
        committed = self.chain.broker.committed_offsets("tillstream.enrich")
        return {tp.partition: offset for tp, offset in committed.items()}

    def sql(self, statement: str, *arguments: object) -> None:
        async def execute() -> None:
            connection = await asyncpg.connect(self.world.dsn)
            try:
                # As somebody at the database's own prompt would: keys and triggers do not help.
                await connection.execute(statement, *arguments)
            finally:
                await connection.close()

        asyncio.run(execute())


@pytest.fixture
def books(stack: Any, tmp_path: Path) -> Iterator[Books]:
    with database(stack.postgres) as dsn:
        world = World(dsn)
        world.sell(*({"event_id": f"event-{n}", "invoice_no": "1", "quantity": n} for n in range(6)))
        books = Books(world, tmp_path)
        yield books
        books.follower.stop()
        world.runner.close()
        world.sink.close()


def test_a_platform_at_rest_balances(books: Books) -> None:
    assert books.alert() is None


def test_a_row_deleted_from_postgres_is_named(books: Books) -> None:
    books.sql("DELETE FROM warehouse.fact_sales WHERE event_id = 'event-3'")
    assert books.alert() == "the ledger does not balance: 1 missing at warehouse: event-3"


def test_rows_deleted_from_delta_are_named(books: Books) -> None:
    DeltaTable(str(books.table)).delete("event_id = 'event-2' OR event_id = 'event-1'")
    assert books.alert() == "the ledger does not balance: 2 missing at lake: event-1, event-2"


def test_a_record_doubled_in_delta_is_named(books: Books) -> None:
    rows = pl.read_delta(str(books.table)).filter(pl.col("event_id") == "event-4")
    rows.write_delta(str(books.table), mode="append")
    assert books.alert() == "the ledger does not balance: 1 doubled at lake: event-4"


def test_a_record_doubled_in_postgres_is_named(books: Books) -> None:
    books.sql(
        "CREATE TEMP TABLE copied AS SELECT * FROM warehouse.fact_sales WHERE event_id = 'event-4'; "
        "UPDATE copied SET date_key = date_key + 1; "
        "INSERT INTO warehouse.fact_sales SELECT * FROM copied"
    )
    assert books.alert() == "the ledger does not balance: 1 doubled at warehouse: event-4"


def test_an_amount_changed_in_one_store_is_named(books: Books) -> None:
    books.sql("UPDATE warehouse.fact_sales SET total_amount = 1 WHERE event_id = 'event-5'")
    assert books.alert() == "the ledger does not balance: 1 differing at lake and warehouse: event-5"


def test_an_outcome_counted_twice_is_named(books: Books) -> None:
    assert books.alert() is None
    with books.follower.lock:
        decisions = books.follower.books.decisions
        decisions.append(decisions.frame().filter(pl.col("event_id") == "event-1"))
    assert books.alert() == "the ledger does not balance: 1 doubled at quality: event-1"
