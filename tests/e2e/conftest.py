"""What the end-to-end tests ask of the platform: its command, its stores, its API."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import asyncpg
import httpx
import polars as pl
import pytest

from deploy.local.layout import CHECKOUT
from deploy.local.ports import Ports
from deploy.local.testing import Platform, run_command

SAMPLE = sorted((CHECKOUT / "samples" / "online-retail").glob("*.csv"))
FACT_COLUMNS = [
    "event_id",
    "source_system",
    "invoice_no",
    "line_no",
    "stock_code",
    "customer_id",
    "sale_key",
    "customer_key",
    "product_key",
    "date_key",
    "invoice_key",
    "quantity",
    "unit_price",
    "currency",
    "total_amount",
    "amount_gbp",
    "country",
    "country_code",
    "region",
    "is_return",
    "is_product",
    "quality_score",
    "invoice_ts",
    "recorded_at",
    "revision",
    "content_hash",
]


class Probe:
    """Questions to a running platform, as an outsider puts them."""

    def __init__(self, platform: Platform) -> None:
        self.platform = platform
        self.http = httpx.Client(timeout=60.0)

    def command(self, *arguments: str, expect: int = 0) -> Any:
        """JSON that the command printed."""
        done = run_command(self.platform.env, *arguments, timeout_s=600)
        assert done.returncode == expect, f"{arguments}: {done.returncode}\n{done.stderr}"
        return json.loads(done.stdout)

    def load(self, *paths: Path, expect: int = 0, source: str | None = None) -> dict[str, Any]:
        named = ["--source", source] if source else []
        report: dict[str, Any] = self.command(
            "load", *map(str, paths), *named, "--wait", "--json", expect=expect
        )
        return report

    def stats(self, service: str) -> dict[str, Any]:
        """`/stats` of one of our processes."""
        base = int(self.platform.env["TILLSTREAM_PORT_BASE"])
        answer: dict[str, Any] = self.http.get(f"{Ports(base).url(service)}/stats").json()
        return answer

    def ledger(self) -> dict[str, Any]:
        report: dict[str, Any] = self.command("ledger", "--json")
        return report

    def command_ledger(self) -> dict[str, Any]:
        """The ledger's figures, balanced or not."""
        done = run_command(self.platform.env, "ledger", "--json")
        assert done.returncode in (0, 1), done.stderr
        figures: dict[str, Any] = json.loads(done.stdout)
        return figures

    def post(self, body: bytes, kind: str = "application/json", **query: str) -> httpx.Response:
        return self.http.post(
            f"{self.platform.urls['ingest']}/v1/events/sales",
            content=body,
            params=query,
            headers={"Content-Type": kind, "Authorization": "Bearer any"},
        )

    def graphql(self, query: str, variables: Mapping[str, Any] | None = None) -> dict[str, Any]:
        answer = self.http.post(
            str(self.platform.urls["graphql"]), json={"query": query, "variables": dict(variables or {})}
        ).json()
        assert "errors" not in answer, answer
        data: dict[str, Any] = answer["data"]
        return data

    def sql(self, statement: str, *arguments: object) -> list[dict[str, Any]]:
        async def fetch() -> list[dict[str, Any]]:
            db = await asyncpg.connect(self.platform.urls["postgres"])
            try:
                return [dict(row) for row in await db.fetch(statement, *arguments)]
            finally:
                await db.close()

        return asyncio.run(fetch())

    def warehouse(self) -> list[dict[str, Any]]:
        columns = ", ".join(FACT_COLUMNS)
        return self.sql(f"select {columns} from warehouse.fact_sales order by event_id")

    def lake(self, table: str = "gold/fact_sales") -> pl.DataFrame:
        return pl.read_delta(str(self.platform.lake / table))

    def wait_for(self, condition: Callable[[], bool], within_s: float, what: str) -> None:
        deadline = time.monotonic() + within_s
        while not condition():
            assert time.monotonic() < deadline, f"not within {within_s} s: {what}"
            time.sleep(0.05)


@pytest.fixture(scope="session")
def probe(platform: Platform) -> Probe:
    return Probe(platform)
