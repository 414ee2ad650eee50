"""The quality of the warehouse's sales, over real tables: GraphQL, and the metrics that the ledger keeps."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from decimal import Decimal
from typing import Any

import asyncpg
import pytest
from prometheus_client import CollectorRegistry

from quality_service.ledger.scores import FACT, Metric, Scores, metric
from tests.integration.query_api_harness import client, database
from tests.integration.test_quarantine_replay import World

pytestmark = pytest.mark.integration
ASKED = """
query($source: String, $range: Range) {
  quality { score rows rejected warned byRule(source: $source, range: $range) { rule severity count } }
}
"""


@pytest.fixture
def world(stack: Any) -> Iterator[World]:
    with database(stack.postgres) as dsn:
        world = World(dsn)
        world.sell(
            {"invoice_no": "1", "line_no": 1, "quantity": 1, "customer_id": "17850", "description": "HEART"},
            {"invoice_no": "1", "line_no": 2, "quantity": 1, "description": "HEART"},
            {"invoice_no": "1", "line_no": 3, "quantity": 1},
            {"invoice_no": "1", "line_no": 4, "quantity": 0},
            {"invoice_no": "2", "line_no": 1, "quantity": 0, "source_system": "till-8"},
        )
        yield world
        world.runner.close()
        world.sink.close()


def ask(world: World, **variables: Any) -> dict[str, Any]:
    async def asked() -> dict[str, Any]:
        async with client(world.dsn) as http:
            return await http.ask(ASKED, **variables)

    quality: dict[str, Any] = asyncio.run(asked())["quality"]
    return quality


def rules(quality: dict[str, Any]) -> set[tuple[str, str, int]]:
    return {(each["rule"], each["severity"], each["count"]) for each in quality["byRule"]}


def test_graphql_tells_score_and_rules_by_source_and_day(world: World) -> None:
    quality = ask(world)
    assert (quality["rows"], quality["rejected"], quality["warned"]) == (3, 2, 2)
    assert quality["score"] == pytest.approx((1.0 + 0.8 + 0.7) / 3, abs=1e-6)
    every = {("NO_CUSTOMER", "warning", 2), ("NO_DESCRIPTION", "warning", 1), ("ZERO_QUANTITY", "error", 2)}
    assert rules(quality) == every
    assert rules(ask(world, source="till-8")) == {("ZERO_QUANTITY", "error", 1)}
    sold = {"from": "2010-12-01", "to": "2010-12-02"}
    assert rules(ask(world, range=sold)) == {each for each in every if each[1] == "warning"}
    assert rules(ask(world, range={"from": "2026-01-01"})) == {each for each in every if each[1] == "error"}


def test_metrics_are_kept_with_their_status_and_only_when_something_changed(world: World) -> None:
    registry = CollectorRegistry()

    async def measure() -> tuple[list[Metric], list[dict[str, Any]]]:
        async with asyncpg.create_pool(world.dsn, min_size=1, max_size=1) as pool:
            found = await Scores(pool, registry, 60).measure()
            return found, [dict(row) for row in await pool.fetch("SELECT * FROM ops.data_quality_metrics")]

    found, kept = asyncio.run(measure())
    assert len(found) == len(kept) > 0
    by_column = {(row["metric_type"], row["column_name"]): row for row in kept}
    customers = by_column["completeness", "customer_id"]
    assert (customers["metric_value"], customers["status"]) == (Decimal("33.33"), "FAIL")
    assert by_column["uniqueness", "event_id"]["status"] == "PASS"
    assert by_column["conformity", None]["metric_value"] == Decimal("60.00")
    score = registry.get_sample_value("data_quality_score", {"table": FACT, "dimension": "overall"})
    assert score == pytest.approx(0.83, abs=0.01)


def test_a_share_that_is_not_whole_never_reads_as_whole() -> None:
    almost = metric("event_id", "uniqueness", 999_999, 1_000_000, 100)
    assert (almost.value, almost.status) == (Decimal("99.99"), "WARNING")
    assert metric("event_id", "uniqueness", 0, 0, 100).status == "PASS"
