"""Later revisions in the fact table: each once, whatever the order and beside whom."""

from __future__ import annotations

from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow as pa
import pytest
from deltalake import DeltaTable, write_deltalake

from gold_writer.lake.commits import appended, read_commit
from gold_writer.lake.rebuild import next_offsets
from gold_writer.lake.tables import FACT, SILVER, create
from gold_writer.maintenance import files, replace, revisions
from gold_writer.maintenance.replace import files as live_files
from gold_writer.maintenance.upkeep import UPKEEP

AT = datetime(2026, 1, 1, 12, 0, 0, 123456, tzinfo=UTC)


def sale(number: int, offset: int, revision: int = 0, **fields: Any) -> dict[str, Any]:
    return {
        "event_id": f"e{number}",
        "topic_id": "topic",
        "partition": number % 2,
        "offset": offset,
        "date_key": 20260101 + number % 3,
        "invoice_ts": AT,
        "recorded_at": AT,
        "ingest_ts": AT,
        "revision": revision,
        "amount_gbp": None,
        "region": "Europe" if number % 2 else None,
        "business_date": date(2026, 1, 1 + number % 3),
        **fields,
    }


class Lake:
    def __init__(self, folder: Path) -> None:
        self.path = folder
        self.merge = revisions.Revisions(folder)
        create(FACT, folder, "topic")
        create(SILVER, folder, "topic")

    def append(self, *sales: dict[str, Any], fact: bool = True, silver: bool = True) -> None:
        first = [sale for sale in sales if sale["revision"] == 0]
        for table, rows in ((FACT, first if fact else []), (SILVER, sales if silver else [])):
            if rows:
                known = [{k: v for k, v in row.items() if k in table.schema.names} for row in rows]
                arrow = pa.Table.from_pylist(known, schema=table.schema)
                write_deltalake(str(table.path(self.path)), arrow, mode="append")

    def apply(self) -> int:
        return self.merge.apply()

    def fact(self) -> pl.DataFrame:
        return pl.read_delta(str(FACT.path(self.path))).sort("event_id")

    def states(self) -> dict[str, tuple[int, Decimal | None]]:
        rows = self.fact().select("event_id", "revision", "amount_gbp").iter_rows()
        found = [(event, (revision, amount)) for event, revision, amount in rows]
        assert len(dict(found)) == len(found), "an event has two rows"
        return dict(found)


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    made = Lake(tmp_path)
    made.append(*(sale(n, n) for n in range(4)))
    made.append(*(sale(n, n) for n in range(4, 8)))
    return made


def test_the_highest_revision_replaces_the_row_and_keeps_its_coordinates(lake: Lake) -> None:
    assert lake.apply() == 0
    later = datetime(2026, 2, 1, tzinfo=UTC)
    lake.append(
        sale(1, 20, 2, amount_gbp=Decimal("2.500001"), recorded_at=later),
        sale(1, 21, 1, amount_gbp=Decimal(1)),
        sale(6, 22, 1, amount_gbp=Decimal(6)),
    )
    before = lake.fact()
    assert lake.apply() == 2
    after = lake.fact()
    assert lake.states() == {f"e{n}": (0, None) for n in (0, 2, 3, 4, 5, 7)} | {
        "e1": (2, Decimal("2.500001")),
        "e6": (1, Decimal(6)),
    }
    assert after.schema == before.schema
    assert after.select("event_id", *revisions.RECORD).equals(before.select("event_id", *revisions.RECORD))
    assert after.filter(pl.col("event_id") == "e1")["recorded_at"].to_list() == [later]
    assert next_offsets(FACT.path(lake.path), "topic", 2) == {0: 7, 1: 8}


def test_a_run_again_a_late_lower_revision_and_a_repeat_change_nothing(lake: Lake) -> None:
    lake.append(sale(1, 20, 2, amount_gbp=Decimal(2)))
    assert lake.apply() == 1
    version = DeltaTable(str(FACT.path(lake.path))).version()
    assert lake.apply() == 0
    assert DeltaTable(str(FACT.path(lake.path))).version() == version, "nothing to do takes no commit"
    lake.append(sale(1, 21, 1, amount_gbp=Decimal(1)), sale(1, 22, 2, amount_gbp=Decimal(2)))
    assert lake.apply() == 0
    assert lake.states()["e1"] == (2, Decimal(2))


def test_a_revision_waits_for_its_fact_and_is_applied_then(lake: Lake) -> None:
    lake.append(sale(9, 30), sale(9, 31, 1, amount_gbp=Decimal(9)), fact=False)
    lake.append(sale(11, 32, 1, amount_gbp=Decimal(11)), sale(3, 33, 1, amount_gbp=Decimal(3)))
    assert lake.apply() == 1
    assert lake.states()["e3"] == (1, Decimal(3))
    lake.append(sale(9, 30), sale(11, 29), silver=False)
    assert lake.apply() == 2
    assert lake.states()["e9"] == (1, Decimal(9))
    assert lake.states()["e11"] == (1, Decimal(11))


def test_appends_and_compaction_beside_a_run_lose_nothing(
    lake: Lake, monkeypatch: pytest.MonkeyPatch
) -> None:
    lake.append(sale(1, 20, 1, amount_gbp=Decimal(1)))
    commit = replace.replace_files

    def after_an_append(*arguments: Any, **more: Any) -> None:
        lake.append(sale(100, 100), sale(101, 101))
        commit(*arguments, **more)

    monkeypatch.setattr(revisions, "replace_files", after_an_append)
    assert lake.apply() == 1
    assert set(lake.states()) == {f"e{n}" for n in [*range(8), 100, 101]}

    lake.append(sale(2, 40, 1, amount_gbp=Decimal(2)))

    def after_a_compaction(*arguments: Any, **more: Any) -> None:
        files.compact(FACT.path(lake.path), UPKEEP[0], 1 << 25, 2)
        commit(*arguments, **more)

    monkeypatch.setattr(revisions, "replace_files", after_a_compaction)
    with pytest.raises(replace.Replaced):
        lake.apply()
    assert lake.states()["e2"] == (0, None)
    monkeypatch.setattr(revisions, "replace_files", commit)
    assert lake.apply() == 1
    assert lake.states()["e2"] == (1, Decimal(2))


def test_followers_of_commits_count_no_replaced_row_again(lake: Lake) -> None:
    lake.append(sale(1, 20, 1))
    lake.apply()
    path = FACT.path(lake.path)
    actions = read_commit(path, DeltaTable(str(path)).version())
    assert actions is not None
    assert appended(actions) == []


def test_statistics_of_a_rewritten_file_hold_all_its_values(lake: Lake) -> None:
    lake.append(sale(1, 20, 1, recorded_at=datetime(2026, 3, 1, 0, 0, 0, 999_999, tzinfo=UTC)))
    lake.apply()
    live = live_files(DeltaTable(str(FACT.path(lake.path))))
    (revised,) = live.filter(pl.col("path").str.contains("revised")).iter_rows(named=True)
    assert (revised["num_records"], revised["min.event_id"], revised["max.event_id"]) == (4, "e0", "e3")
    assert revised["max.recorded_at"] == datetime(2026, 3, 1, 0, 0, 1, tzinfo=UTC)
    assert revised["min.recorded_at"] == AT.replace(microsecond=123_000)
    late = pl.scan_delta(str(FACT.path(lake.path))).filter(
        pl.col("recorded_at") == datetime(2026, 3, 1, 0, 0, 0, 999_999, tzinfo=UTC)
    )
    assert late.collect()["event_id"].to_list() == ["e1"]
