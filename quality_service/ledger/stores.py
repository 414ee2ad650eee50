"""What the lake and the warehouse hold, read from those stores themselves."""

from __future__ import annotations

import json
import threading
from pathlib import Path
from typing import Any

import asyncpg
import polars as pl
from deltalake import DeltaTable
from deltalake.exceptions import TableNotFoundError

from quality_service.ledger.books import LAKE, WAREHOUSE
from schemas.identity import key64_expr

CONSUMER = "tillstream.warehouse"
TOPIC = "sales.enriched.v1"
_IDS = """
    select event_id, (total_amount * 1000000)::bigint as amount_micros from warehouse.fact_sales
"""
_POSITION = "select partition, next_offset from ops.stream_offsets where consumer = $1 and topic = $2"
_LATENCY = """
    select percentile_cont(array[0.5, 0.99])
        within group (order by extract(epoch from loaded_at - ingest_ts) * 1000)
    from warehouse.fact_sales where $1::text is null or load_id = $1
"""


_TRACED_COMMITS = 2000


class LakeFacts:
    """`gold/fact_sales` of the lake, without a JVM. Data files never change, so each is read once.

    Maintenance replaces files: rows of many small ones in one, or with later revisions. `at` of a row is
    when it was first there, so it is taken over from the file that held the row before.
    """

    def __init__(self, lake: Path) -> None:
        self._path = lake / "gold" / "fact_sales"
        self._table: DeltaTable | None = None
        self._files: dict[str, pl.DataFrame] = {}
        self._committed_at: dict[str, int] = {}
        self._replaced: dict[str, list[str]] = {}
        self._version = -1
        self._lock = threading.Lock()

    def read(self) -> pl.DataFrame:
        """One row per fact row (columns LAKE); empty while there is no table yet. `at` is when the commit
        that brought the row was written, in milliseconds; null where the log does not go back so far."""
        with self._lock:
            return self._read()

    def _read(self) -> pl.DataFrame:
        if self._table is None:
            try:
                self._table = DeltaTable(str(self._path))
            except TableNotFoundError:
                return pl.DataFrame(schema=LAKE)
        else:
            self._table.update_incremental()
        self._note_commits(self._table.version())
        live = [uri.rsplit("/", 1)[-1] for uri in self._table.file_uris()]
        self._files = {name: self._frame(name) for name in live}
        self._committed_at = {name: at for name, at in self._committed_at.items() if name in self._files}
        self._replaced.clear()
        if not self._files:
            return pl.DataFrame(schema=LAKE)
        return pl.concat(self._files.values())

    def _note_commits(self, version: int) -> None:
        # After a restart beside a long log, replaced files stay unread: the times serve only for latency.
        trace = version - self._version < _TRACED_COMMITS
        for number in range(self._version + 1, version + 1):
            commit = self._path / "_delta_log" / f"{number:020}.json"
            try:
                at = int(commit.stat().st_mtime * 1000)
                actions = [json.loads(line) for line in commit.read_text(encoding="utf-8").splitlines()]
            except FileNotFoundError:  # cleaned up after a checkpoint
                continue
            removed = [_name(action["remove"]) for action in actions if "remove" in action]
            for name in (_name(action["add"]) for action in actions if "add" in action):
                if removed and trace:
                    self._replaced[name] = removed
                elif not removed:
                    self._committed_at[name] = at
        self._version = version

    def _frame(self, name: str) -> pl.DataFrame:
        if name in self._files:
            return self._files[name]
        frame = self._read_file(name)
        if name in self._replaced:
            earlier = pl.concat(self._before(source) for source in self._replaced[name]).unique("id")
            frame = frame.drop("at").join(earlier, on="id", how="left", maintain_order="left")
        return frame

    def _before(self, name: str) -> pl.DataFrame:
        """When the rows of a file that was replaced were first there; nothing once it was vacuumed."""
        try:
            return self._frame(name).select("id", "at")
        except FileNotFoundError:
            return pl.DataFrame(schema={"id": pl.Int64, "at": pl.Int64})

    def _read_file(self, name: str) -> pl.DataFrame:
        return (
            pl.scan_parquet(self._path / name)
            .select(
                id=key64_expr(pl.lit("sale"), pl.col("event_id")),
                partition=pl.col("partition"),
                offset=pl.col("offset"),
                amount_micros=(pl.col("total_amount") * 1_000_000).cast(pl.Int64),
                ingest_ts=pl.col("ingest_ts").dt.timestamp("ms"),
                at=pl.lit(self._committed_at.get(name), dtype=pl.Int64),
            )
            .collect()
            .select(pl.col(column).cast(kind) for column, kind in LAKE.items())
        )


def _name(action: dict[str, Any]) -> str:
    return str(action["path"]).rsplit("/", 1)[-1]


async def warehouse_facts(pool: asyncpg.Pool) -> tuple[pl.DataFrame, dict[int, int]]:
    """(rows with columns WAREHOUSE, position per enriched partition), of one snapshot."""
    async with pool.acquire() as db, db.transaction(isolation="repeatable_read", readonly=True):
        position = {r["partition"]: r["next_offset"] for r in await db.fetch(_POSITION, CONSUMER, TOPIC)}
        chunks: list[bytes] = []

        async def keep(data: bytes) -> None:
            chunks.append(bytes(data))

        await db.copy_from_query(_IDS, output=keep, format="csv")
    body = b"".join(chunks)
    if not body:
        return pl.DataFrame(schema=WAREHOUSE), position
    rows = pl.read_csv(body, has_header=False, schema={"event_id": pl.String, "amount_micros": pl.Int64})
    return rows.select(key64_expr(pl.lit("sale"), pl.col("event_id")).alias("id"), "amount_micros"), position


async def warehouse_latency(pool: asyncpg.Pool, load_id: str | None) -> dict[str, float] | None:
    """p50 and p99 from acceptance to the warehouse's commit, in milliseconds."""
    row = await pool.fetchval(_LATENCY, load_id)
    return None if row is None else {"p50": round(row[0], 1), "p99": round(row[1], 1)}


def lake_latency(facts: pl.DataFrame, ids: pl.Series | None = None) -> dict[str, float] | None:
    """p50 and p99 from acceptance to the lake's commit, in milliseconds."""
    if ids is not None:
        facts = facts.filter(pl.col("id").is_in(ids.implode()))
    if facts.is_empty():
        return None
    waited = (facts["at"] - facts["ingest_ts"]).drop_nulls()
    if waited.is_empty():
        return None
    return {"p50": float(waited.quantile(0.5) or 0), "p99": float(waited.quantile(0.99) or 0)}
