"""What a replay makes of the item that it mends, by the decision table's outcomes."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from schemas.decisions import Outcome
from schemas.identity import receipt_item_id
from streamkit.ports import Headers
from tests.unit.quality_service.quality_bench import QUARANTINE, VALIDATED, Bench, sale


def replay(item: str, attempt: int = 1) -> Headers:
    return [
        ("load-id", b"replay-7"),
        ("replay-of", item.encode()),
        ("replay-attempt", str(attempt).encode()),
    ]


def told(bench: Bench, state: str) -> list[tuple[Any, ...]]:
    rows = bench.read(QUARANTINE).to_dicts()
    return [(r["item_id"], r["reason"], r["attempts"]) for r in rows if r["state"] == state]


def gold(bench: Bench) -> list[str]:
    return sorted(bench.read(VALIDATED)["event_id"])


def only_item(bench: Bench) -> str:
    bench.drain()
    ((item, _, _),) = told(bench, "OPEN")
    return str(item)


def test_a_mended_sale_resolves_its_item_once() -> None:
    bench = Bench()
    bench.sell(sale(quantity=0))
    item = only_item(bench)
    bench.sell(sale(quantity=5), headers=replay(item))
    bench.drain()
    assert told(bench, "RESOLVED") == [(item, "ACCEPTED", 1)]
    assert gold(bench) == [sale()["event_id"]]


def test_an_item_that_ingest_refused_is_resolved_by_its_replay() -> None:
    bench = Bench()
    bench.sell(sale(), headers=replay("item-of-ingest"))
    bench.drain()
    assert told(bench, "RESOLVED") == [("item-of-ingest", "ACCEPTED", 1)]


def test_a_replay_sent_twice_is_gold_once_and_leaves_the_item_resolved() -> None:
    bench = Bench()
    for _ in range(2):
        bench.sell(sale(), headers=replay("item-1"))
    bench.drain()
    bench.sell(sale(), headers=replay("item-1", 2))
    bench.drain()
    assert gold(bench) == [sale()["event_id"]]
    assert told(bench, "RETRIED") == []
    assert {item for item, _, _ in told(bench, "RESOLVED")} == {"item-1"}


def test_a_replay_that_is_refused_again_says_so_and_counts() -> None:
    bench = Bench()
    bench.sell(sale(quantity=0))
    item = only_item(bench)
    bench.sell(sale(quantity=0), headers=replay(item, 3))
    bench.drain()
    assert told(bench, "RETRIED") == [(item, "ZERO_QUANTITY", 3)]
    assert told(bench, "RESOLVED") == []
    assert gold(bench) == []


def test_a_replay_that_fails_differently_keeps_its_bytes_as_an_item_of_its_own() -> None:
    bench = Bench()
    bench.sell(sale(quantity=0))
    item = only_item(bench)
    bench.sell(sale(quantity=1, currency="XXZ"), headers=replay(item))
    bench.drain()
    assert told(bench, "RETRIED") == [(item, "BAD_CURRENCY", 1)]
    assert len(told(bench, "OPEN")) == 2


def test_a_conflict_replayed_under_its_own_id_conflicts_again_and_under_a_new_one_is_gold() -> None:
    bench = Bench()
    bench.sell(sale(), sale(quantity=9))
    item = only_item(bench)
    bench.sell(sale(quantity=9), headers=replay(item))
    bench.drain()
    assert told(bench, "RETRIED") == [(item, "ID_CONFLICT", 1)]
    bench.sell({**sale(quantity=9), "event_id": "event-new"}, headers=replay(item, 2))
    bench.drain()
    assert told(bench, "RESOLVED") == [(item, "ACCEPTED", 2)]
    assert gold(bench) == sorted([sale()["event_id"], "event-new"])


def test_a_rule_that_was_fixed_lets_the_same_bytes_through() -> None:
    bench = Bench()
    bench.sell(sale(invoice_ts=datetime(2024, 1, 1)))
    item = only_item(bench)
    bench.clock.advance(90 * 86_400)
    bench.sell(sale(invoice_ts=datetime(2024, 1, 1)), headers=replay(item))
    bench.drain()
    assert told(bench, "RESOLVED") == [(item, "ACCEPTED", 1)]
    outcomes = bench.decided()["outcome"].to_list()
    assert outcomes == [Outcome.REJECTED, Outcome.ACCEPTED_RESOLVING]


def test_a_forged_header_that_is_no_id_or_number_changes_nothing() -> None:
    bench = Bench()
    for of, attempt in (
        (b"\xff\xfe", b"1"),
        (b"item", b"many"),
        (b"x" * 200, b"1"),
        (b"", b"1"),
        (b"item", b"-1"),
    ):
        headers: Headers = [("load-id", b"replay-x"), ("replay-of", of), ("replay-attempt", attempt)]
        bench.sell(sale(line_no=len(attempt) + len(of)), headers=headers)
    bench.drain()
    assert bench.read(QUARANTINE).is_empty()
    assert len(gold(bench)) == 5


def test_headers_that_are_no_utf_8_do_not_stop_the_stage() -> None:
    bench = Bench()
    bench.sell(
        sale(quantity=0), headers=[("load-id", b"\xff\xfe"), ("traceparent", b"\xfe"), ("ingest-ts", b"\xff")]
    )
    bench.drain()
    (item,) = bench.read(QUARANTINE).to_dicts()
    assert (item["reason"], item["load_id"], item["traceparent"]) == ("ZERO_QUANTITY", None, None)


def test_without_the_header_nothing_is_said_of_an_item() -> None:
    bench = Bench()
    bench.sell(sale(), headers=[("load-id", b"replay-7")])
    bench.drain()
    assert receipt_item_id(bench.raw.topic_id, 0, 0)
    assert bench.read(QUARANTINE).is_empty()
