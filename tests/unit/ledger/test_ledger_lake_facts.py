"""What the ledger reads of a lake whose files maintenance replaces."""

from __future__ import annotations

import os
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path

import polars as pl
import pyarrow as pa
from deltalake import DeltaTable, write_deltalake

from quality_service.ledger.stores import LakeFacts, lake_latency
from schemas.identity import key64

FIELDS = pa.schema(
    [
        pa.field("event_id", pa.string()),
        pa.field("partition", pa.int32()),
        pa.field("offset", pa.int64()),
        pa.field("total_amount", pa.decimal128(20, 6)),
        pa.field("ingest_ts", pa.timestamp("us", tz="UTC")),
        pa.field("revision", pa.int32()),
    ]
)
ACCEPTED = datetime(2026, 1, 1, tzinfo=UTC)
ACCEPTED_MS = int(ACCEPTED.timestamp() * 1000)


def append(lake: Path, number: int, committed_after_ms: int) -> None:
    path = lake / "gold" / "fact_sales"
    row = {
        "event_id": f"e{number}",
        "partition": 0,
        "offset": number,
        "total_amount": Decimal("1.5"),
        "ingest_ts": ACCEPTED,
        "revision": 0,
    }
    write_deltalake(str(path), pa.Table.from_pylist([row], schema=FIELDS), mode="append")
    at = (ACCEPTED_MS + committed_after_ms) / 1000
    os.utime(path / "_delta_log" / f"{DeltaTable(str(path)).version():020}.json", (at, at))


def seen(facts: LakeFacts) -> dict[int, int | None]:
    return dict(facts.read().select("id", pl.col("at") - ACCEPTED_MS).iter_rows())


def keyed(times: dict[int, int]) -> dict[int, int]:
    return {key64("sale", f"e{number}"): at for number, at in times.items()}


def test_compaction_and_z_order_change_neither_rows_nor_times(tmp_path: Path) -> None:
    for number in range(4):
        append(tmp_path, number, committed_after_ms=1000 + number)
    facts, table = LakeFacts(tmp_path), DeltaTable(str(tmp_path / "gold" / "fact_sales"))
    expected = keyed({number: 1000 + number for number in range(4)})
    assert seen(facts) == expected
    table.optimize.compact()
    assert seen(facts) == expected
    append(tmp_path, 4, committed_after_ms=2000)
    table.update_incremental()
    table.optimize.compact()
    table.optimize.z_order(["event_id"])
    expected |= keyed({4: 2000})
    assert seen(facts) == expected, "also where a file came and went between two looks"
    assert seen(LakeFacts(tmp_path)) == expected, "also for a ledger that starts now"
    assert lake_latency(facts.read()) == {"p50": 1002.0, "p99": 2000.0}


def test_a_time_that_nothing_tells_is_unknown_and_left_out_of_the_latency(tmp_path: Path) -> None:
    for number in range(2):
        append(tmp_path, number, committed_after_ms=1000)
    table = DeltaTable(str(tmp_path / "gold" / "fact_sales"))
    table.optimize.compact()
    table.vacuum(0, dry_run=False, enforce_retention_duration=False)
    append(tmp_path, 2, committed_after_ms=3000)
    facts = LakeFacts(tmp_path)
    assert set(seen(facts).values()) == {None, 3000}
    assert lake_latency(facts.read()) == {"p50": 3000.0, "p99": 3000.0}


def test_a_row_that_a_later_revision_replaced_is_still_there(tmp_path: Path) -> None:
    append(tmp_path, 1, committed_after_ms=1000)
    facts, path = LakeFacts(tmp_path), str(tmp_path / "gold" / "fact_sales")
    assert seen(facts) == keyed({1: 1000})
    DeltaTable(path).update({"revision": "1", "total_amount": "2.5"})
    assert seen(facts) == keyed({1: 1000})
    assert facts.read()["amount_micros"].to_list() == [2_500_000]
