"""The check of the law on a real warehouse: the same sales to both sides, and what it says of a change."""

from __future__ import annotations

import asyncio
import datetime as dt
from collections.abc import Iterator

import asyncpg
import polars as pl
import pytest

from deploy.local.testing import Servers
from gold_writer.aggregates.recount import Counted, WarehouseBehind, counted, differences, recounted
from streamkit.memory import MemoryConsumer
from streamkit.ports import TopicPartition
from tests.integration.query_api_harness import database
from tests.integration.warehouse_bench import CONSUMER, Warehouse
from tests.unit.aggregates.aggregates_world import AT, ENRICHED, World


@pytest.fixture
def warehouse(stack: Servers) -> Iterator[Warehouse]:
    with database(stack.postgres) as dsn:
        made = Warehouse(dsn)
        yield made
        made.close()


def sales(world: World, start: int, count: int) -> None:
    countries = ("EIRE", None, "a|b", "nul\x00")
    for shard in (0, 1):
        world.send(
            [
                {
                    "event_id": f"{shard}-{i}",
                    "invoice_no": f"{i % 5}",
                    "line_no": i + 1,
                    "country": countries[i % 4],
                    "stock_code": f"8512{i % 3}",
                    "is_return": i % 6 == 0,
                    "quantity": -i if i % 6 == 0 else i,
                    "amount_gbp_micros": None if i % 7 == 0 else (-1 if i % 6 == 0 else 1) * i * 10**15 + 1,
                    "invoice_ts": AT + dt.timedelta(seconds=31 * i, days=i % 3),
                }
                for i in range(start, start + count)
            ],
            shard,
        )


def store(world: World, warehouse: Warehouse) -> None:
    """Everything that was sent, into the warehouse."""
    reader = MemoryConsumer(world.broker, "warehouse")
    reader.subscribe(
        [ENRICHED],
        on_assign=lambda partitions: dict.fromkeys(partitions, 0),
        on_revoke=lambda _: None,
        on_lost=lambda _: None,
    )
    sink = warehouse.sink(partitions=[TopicPartition(ENRICHED, shard) for shard in (0, 1)])
    while batches := reader.poll(100, 1 << 24, 0.0, 0.0):
        sink.write(batches)
    reader.close()


def totals(world: World) -> Counted:
    return counted(chunk for shard in (0, 1) for chunk in world.changelog.read(shard, 0))


def compare(world: World, warehouse: Warehouse, within_s: float = 0.5) -> pl.DataFrame:
    async def ask() -> pl.DataFrame:
        found = totals(world)
        db = await asyncpg.connect(warehouse.dsn)
        try:
            facts = await recounted(db, found.cut, consumer=CONSUMER, topic=ENRICHED, within_s=within_s)
        finally:
            await db.close()
        return differences(found.windows, facts)

    return asyncio.run(ask())


def test_totals_equal_a_recount_of_the_facts_also_while_the_warehouse_is_ahead(warehouse: Warehouse) -> None:
    world = World()
    sales(world, 0, 40)
    world.run()
    assert totals(world).windows.height > 80
    sales(world, 40, 20)
    store(world, warehouse)
    assert compare(world, warehouse).is_empty()
    world.run()
    assert compare(world, warehouse).is_empty()


@pytest.mark.parametrize(
    "sabotage",
    [
        "DELETE FROM warehouse.fact_sales WHERE event_id = '0-3'",
        "UPDATE warehouse.fact_sales SET amount_gbp = amount_gbp + 0.000001 WHERE event_id = '1-5'",
        "UPDATE warehouse.fact_sales SET is_return = true WHERE event_id = '1-5'",
        "UPDATE warehouse.fact_sales SET quantity = 0 WHERE event_id = '0-1'",
        "UPDATE warehouse.fact_sales SET country = 'France' WHERE event_id = '0-1'",
    ],
)
def test_one_fact_that_differs_is_found(warehouse: Warehouse, sabotage: str) -> None:
    world = World()
    sales(world, 0, 20)
    world.run()
    store(world, warehouse)
    warehouse.run(sabotage)
    assert not compare(world, warehouse).is_empty()


def test_a_warehouse_that_lags_is_waited_for_and_then_named(warehouse: Warehouse) -> None:
    world = World()
    sales(world, 0, 20)
    store(world, warehouse)
    sales(world, 20, 5)
    world.run()
    with pytest.raises(WarehouseBehind, match="the totals at"):
        compare(world, warehouse)
