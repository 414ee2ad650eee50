"""Quarantined lines are mended, replayed through ingest, and end in gold once."""

from __future__ import annotations

import json
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from deploy.local.testing import run_command
from tests.e2e.conftest import Probe

HEADER = "InvoiceNo,StockCode,Description,Quantity,InvoiceDate,UnitPrice,CustomerID,Country\n"
LINES = 10_000


def replay(probe: Probe, *arguments: str, expect: int = 0) -> dict[str, Any]:
    told: dict[str, Any] = probe.command("quarantine", "replay", *arguments, "--json", expect=expect)
    return told


def items(probe: Probe, source: str) -> list[dict[str, Any]]:
    return probe.sql("select * from ops.quarantine where source_system = $1 order by item_id", source)


@pytest.fixture
def refused(probe: Probe, tmp_path: Path) -> str:
    """A file of lines whose quantity lacks its sign's reason, and one line that is no sale at all."""
    source = "replayed"
    path = tmp_path / "day.csv"
    rows = [
        f"7{i // 20:05},85123A,HEART,-{i % 9 + 1},2010-12-01 08:26:00,2.55,17850,EIRE" for i in range(LINES)
    ]
    rows.append('700000,85123A,HEART,six,2010-12-01 08:26:00,"2,55",17850,EIRE')
    path.write_text(HEADER + "\n".join(rows) + "\n")
    loaded = probe.load(path, source=source)
    assert (loaded["quarantined"], loaded["gold"]) == (LINES + 1, 0)
    return source


def test_ten_thousand_quarantined_lines_are_replayed_into_gold_once(probe: Probe, refused: str) -> None:
    held = {row["event_id"]: row for row in items(probe, refused) if row["event_id"]}
    before = probe.ledger()
    where = f"source_system = '{refused}' AND reason = 'NEGATIVE_QUANTITY'"

    # Nothing is sent by a dry run, and a replay that mends nothing fails again and says why.
    tried = replay(probe, "--where", where, "--set", "quantity=abs(quantity)", "--dry-run")
    assert (tried["matched"], tried["by_rule"]) == (LINES, {"NEGATIVE_QUANTITY": LINES})
    one = next(iter(held.values()))["item_id"]
    again = replay(probe, "--id", one, expect=1)
    assert (again["failed_again"], again["reasons"][0]["reason"]) == (1, "NEGATIVE_QUANTITY")

    told = replay(probe, "--where", where, "--set", "quantity=abs(quantity)")
    assert (told["matched"], told["resolved"], told["failed_again"], told["pending"]) == (LINES, LINES, 0, 0)

    def gold() -> list[dict[str, Any]]:
        return probe.sql(
            "select event_id, total_amount from warehouse.fact_sales where source_system = $1", refused
        )

    probe.wait_for(lambda: len(gold()) >= LINES, 60, "the replayed lines in the warehouse")
    probe.wait_for(lambda: probe.command_ledger()["in_flight"] == 0, 60, "the ledger at rest")
    facts = gold()
    assert sorted(row["event_id"] for row in facts) == sorted(held)
    assert sum(row["total_amount"] for row in facts) == -sum(row["amount"] for row in held.values())
    lake = probe.lake().filter(source_system=refused)
    assert sorted(lake["event_id"]) == sorted(held)
    after = probe.ledger()
    assert after["balanced"]
    assert after["resolved"] == before["resolved"] + LINES
    assert after["quarantined"] == before["quarantined"] - LINES
    states = {row["event_id"]: row for row in items(probe, refused) if row["event_id"]}
    assert {row["state"] for row in states.values()} == {"RESOLVED"}
    assert next(row["attempts"] for row in states.values() if row["item_id"] == one) == 2

    # The line that could not even be read is mended field by field, and asking again changes nothing.
    (broken,) = [row["item_id"] for row in items(probe, refused) if row["reason"] == "UNDECODABLE"]
    fields = ("--set", "quantity=6", "--set", "unit_price=replace(text_unit_price, ',', '.')")
    assert replay(probe, "--id", broken, *fields)["resolved"] == 1
    assert replay(probe, "--id", broken, *fields)["matched"] == 0
    (shown,) = probe.command("quarantine", "show", broken, "--json")
    assert (shown["state"], [each["outcome"] for each in shown["history"]]) == ("RESOLVED", ["RESOLVED"])
    assert json.loads(shown["context"])["columns"][0] == "invoice_no"
    probe.wait_for(lambda: len(gold()) == LINES + 1, 30, "the mended line in the warehouse")
    assert max(row["total_amount"] for row in gold()) == Decimal("22.95")


def test_a_condition_that_cannot_be_is_told_and_nothing_is_sent(probe: Probe) -> None:
    done = run_command(probe.platform.env, "quarantine", "replay", "--where", "colour = 'red'", "--json")
    assert done.returncode == 1
    assert "no column colour" in done.stderr
