"""`python -m gold_writer.agreement`: are the dimensions in topics, Postgres and Delta equal, value by value?

Prints JSON, for each dimension: equal, versions (how many in each store), differing (missing, extra and other
values of each store against the topic, with surrogate keys as examples). The exit code is 0 where all are
equal, 1 where not. It changes nothing. A store that is just catching up differs for a moment: ask again.
"""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path
from typing import Any

import asyncpg
import polars as pl
from deltalake import DeltaTable

from gold_writer.agreement.compare import canonical, differences
from gold_writer.warehouse.dimensions import TABLES, Table
from schemas.catalogue import load_topics
from schemas.codec import Codec
from schemas.registry import RegistryClient
from streamkit.kafka import KafkaFollower
from streamkit.settings import PlatformSettings

_CHUNK, _POLL_S = 20_000, 0.1


def published(settings: PlatformSettings, table: Table, codec: Codec) -> pl.DataFrame:
    """The last value of every key of the topic. Raises ValueError for a record that is no version."""
    follower = KafkaFollower(settings.kafka, [table.dimension.topic], "tillstream.agreement")
    latest: dict[bytes | None, bytes | None] = {}
    try:
        follower.open()
        while not follower.at_end():
            for batch in follower.poll(_CHUNK, _POLL_S):
                latest.update(zip(batch.key, batch.value, strict=True))
    finally:
        follower.close()
    decoded = codec.decode([value for value in latest.values() if value is not None])
    if decoded.bad:
        raise ValueError(f"a record of {table.dimension.topic} is no version: {decoded.bad[0].reason}")
    return decoded.frame


async def stored(dsn: str, table: Table, columns: pl.Schema) -> pl.DataFrame:
    db = await asyncpg.connect(dsn, server_settings={"timezone": "UTC"})
    try:
        names = [column.name for column in table.columns]
        rows = await db.fetch(f"SELECT {', '.join(names)} FROM warehouse.{table.name}")  # noqa: S608 - our names
    finally:
        await db.close()
    kinds = {c.name: columns[c.source] for c in table.columns if c.source in columns}
    schema = {
        name: pl.Datetime("us", "UTC")
        if isinstance(kinds.get(name), pl.Datetime)
        else pl.Decimal(38, 6)
        if name == "list_price"
        else kinds[name]
        for name in names
    }
    return canonical(pl.DataFrame([tuple(row) for row in rows], schema=schema, orient="row"), columns)


def lake(folder: Path, table: Table, columns: pl.Schema) -> pl.DataFrame:
    frame = pl.from_arrow(DeltaTable(str(folder / "gold" / table.name)).to_pyarrow_table())
    assert isinstance(frame, pl.DataFrame)
    return canonical(frame, columns)


async def check(settings: PlatformSettings) -> dict[str, Any]:
    """Raises what an adapter raises."""
    registry, topics = RegistryClient(settings.registry), load_topics()
    report: dict[str, Any] = {"equal": True}
    for table in TABLES:
        codec = Codec(topics[table.dimension.topic].schema_text, registry)
        stores = {
            "topic": published(settings, table, codec),
            "warehouse": await stored(settings.postgres, table, codec.columns),
            "lake": lake(settings.lake, table, codec.columns),
        }
        report[table.name] = differences(stores, table.dimension.surrogate_key)
        report["equal"] = report["equal"] and report[table.name]["equal"]
    return report


def main() -> int:
    report = asyncio.run(check(PlatformSettings()))
    json.dump(report, sys.stdout)
    sys.stdout.write("\n")
    return 0 if report["equal"] else 1


if __name__ == "__main__":
    sys.exit(main())
