"""The balance against a scripted world: every receipt where it should be, then one thing broken at a time."""

from __future__ import annotations

import polars as pl
import pytest

from quality_service.ledger.books import (
    DECISIONS,
    HOP,
    LAKE,
    QUARANTINE,
    RAW,
    WAREHOUSE,
    Balance,
    Books,
    Progress,
)
from schemas.decisions import Outcome
from schemas.identity import key64


def sale_id(event: str) -> int:
    return key64("sale", event)


class World:
    """One raw partition; `send` puts a receipt on it, the rest follows what each stage did with it."""

    def __init__(self) -> None:
        self.books = Books()
        self.offset = 0
        self.hop = 0
        self.lake: list[dict[str, object]] = []
        self.warehouse: list[dict[str, object]] = []

    def send(self, event: str, outcome: Outcome | None, *, load: str = "L1", stored: bool = True) -> int:
        at = self.raw(load)
        if outcome is not None:
            self.decide(at, event, outcome)
            if outcome in (Outcome.ACCEPTED, Outcome.ACCEPTED_RESOLVING):
                self.enrich(event, stored=stored)
            if outcome in (Outcome.REJECTED, Outcome.CONFLICT):
                self.keep(event, at, load=load)
        return at

    def raw(self, load: str = "L1", origin: int | None = None, *, heartbeat: bool = False) -> int:
        at, self.offset = self.offset, self.offset + 1
        first = at if origin is None else origin
        self.books.raw.append(pl.DataFrame([[0], [at], [0], [first], [load], [1], [heartbeat]], schema=RAW))
        return at

    def decide(self, at: int, event: str, outcome: Outcome, *, heartbeat: bool = False) -> None:
        row = [[0], [at], [event], [sale_id(event)], [int(outcome)], [None], [2], [heartbeat]]
        self.books.decisions.append(pl.DataFrame(row, schema=DECISIONS))
        self.books.decided(0, at + 1)

    def enrich(self, event: str, *, stored: bool = True) -> None:
        at, self.hop = self.hop, self.hop + 1
        hop = pl.DataFrame([[sale_id(event)], [0], [at], [3]], schema=HOP)
        self.books.validated.append(hop)
        self.books.enriched.append(hop)
        if stored:
            self.store_lake(event, at)
            self.store_warehouse(event)

    def store_lake(self, event: str, at: int, amount: int = 5) -> None:
        self.lake.append(dict(zip(LAKE, [sale_id(event), 0, at, amount, 1, 9], strict=True)))

    def store_warehouse(self, event: str, amount: int = 5) -> None:
        self.warehouse.append(dict(zip(WAREHOUSE, [sale_id(event), amount], strict=True)))

    def keep(
        self, event: str, at: int | None, *, stage: str = "quality", state: str = "OPEN", load: str = "L1"
    ) -> None:
        row = [f"item-{event}", stage, state, event, "ZERO_QUANTITY", 0, at, load, 7, 0, self.hop, 2]
        self.hop += 1
        self.books.quarantine.append(pl.DataFrame([[v] for v in row], schema=QUARANTINE))

    def balance(self, progress: Progress | None = None, load: str | None = None):  # type: ignore[no-untyped-def]
        return self.books.balance(
            pl.DataFrame(self.lake, schema=LAKE),
            pl.DataFrame(self.warehouse, schema=WAREHOUSE),
            progress or Progress(enrich={0: self.hop}, warehouse={0: self.hop}),
            load,
        )


@pytest.fixture
def world() -> World:
    world = World()
    world.send("a", Outcome.ACCEPTED)
    world.send("b", Outcome.ACCEPTED)
    world.send("a", Outcome.DUPLICATE)
    world.send("c", Outcome.REJECTED)
    world.send("d", Outcome.REJECTED)
    world.send("d", Outcome.ACCEPTED_RESOLVING, load="L2")
    world.keep("d", None, state="RESOLVED")
    world.send("b", Outcome.CONFLICT, load="L2")
    return world


def test_every_receipt_has_one_outcome_and_the_ledger_balances(world: World) -> None:
    balance = world.balance()
    assert balance.balanced
    assert (balance.accepted, balance.gold, balance.duplicates) == (7, 3, 1)
    assert (balance.quarantined, balance.resolved, balance.in_flight) == (2, 1, 0)
    assert (balance.amount_gold, balance.amount_quarantined) == (15, 14)


def figures(world: World) -> tuple[object, ...]:
    balance = world.balance()
    return (balance.accepted, balance.gold, balance.in_flight, balance.missing, balance.balanced)


def test_heartbeat_changes_no_figure_before_and_after_its_decision(world: World) -> None:
    before = figures(world)
    at = world.raw(load="heartbeat", heartbeat=True)
    assert figures(world) == before
    world.decide(at, "tillstream.heartbeat/1", Outcome.ACCEPTED, heartbeat=True)
    world.enrich("tillstream.heartbeat/1", stored=False)
    assert figures(world) == before


def test_sale_under_a_heartbeats_key_is_a_receipt_once_it_is_decided(world: World) -> None:
    accepted, gold, *_ = figures(world)
    at = world.raw(heartbeat=True)
    world.decide(at, "x", Outcome.ACCEPTED)
    world.enrich("x")
    assert figures(world) == (int(str(accepted)) + 1, int(str(gold)) + 1, 0, [], True)


def test_heartbeat_that_reached_a_store_is_found(world: World) -> None:
    at = world.raw(heartbeat=True)
    world.decide(at, "tillstream.heartbeat/1", Outcome.ACCEPTED, heartbeat=True)
    world.enrich("tillstream.heartbeat/1", stored=True)
    assert (world.balance().unexpected, world.balance().balanced) == (2, False)


def test_a_load_counts_its_own_receipts_only(world: World) -> None:
    balance = world.balance(load="L2")
    assert balance.balanced
    assert (balance.accepted, balance.gold, balance.quarantined) == (2, 1, 1)


def test_an_undecided_receipt_is_in_flight(world: World) -> None:
    world.send("e", None)
    balance = world.balance()
    assert (balance.in_flight, balance.balanced) == (1, True)


def test_a_receipt_that_quality_passed_without_deciding_is_missing(world: World) -> None:
    at = world.send("e", None)
    world.books.decided(0, at + 1)
    balance = world.balance()
    assert balance.missing == [f"raw 0:{at}"]
    assert not balance.balanced


def test_a_sale_not_yet_read_by_the_sinks_is_in_flight(world: World) -> None:
    before = world.hop
    world.send("e", Outcome.ACCEPTED, stored=False)
    balance = world.balance(Progress(enrich={0: world.hop}, warehouse={0: before}))
    assert (balance.in_flight, balance.missing, balance.balanced) == (1, [], True)


def test_a_sale_in_one_store_only_is_in_flight(world: World) -> None:
    before = world.hop
    world.send("e", Outcome.ACCEPTED, stored=False)
    world.store_lake("e", before)
    balance = world.balance(Progress(enrich={0: world.hop}, warehouse={0: before}))
    assert (balance.in_flight, balance.gold, balance.lake) == (1, 3, 4)
    assert balance.balanced


@pytest.mark.parametrize("store", ["lake", "warehouse"])
def test_a_row_deleted_from_a_store_is_missing_by_name(world: World, store: str) -> None:
    rows = getattr(world, store)
    setattr(world, store, [r for r in rows if r["id"] != sale_id("a")])
    balance = world.balance()
    assert balance.missing == ["a"]
    assert not balance.balanced


@pytest.mark.parametrize("store", ["lake", "warehouse"])
def test_a_row_stored_twice_unbalances(world: World, store: str) -> None:
    getattr(world, store).append(getattr(world, store)[0])
    balance = world.balance()
    assert (balance.doubled, balance.balanced) == (1, False)


def test_a_row_that_nobody_sent_unbalances(world: World) -> None:
    world.store_warehouse("stranger")
    balance = world.balance()
    assert (balance.unexpected, balance.balanced) == (1, False)


def test_another_amount_in_one_store_unbalances(world: World) -> None:
    world.warehouse[0]["amount_micros"] = 6
    balance = world.balance()
    assert (balance.differing, balance.balanced) == (1, False)


def test_a_rejection_without_its_quarantine_record_is_missing(world: World) -> None:
    world.decide(world.raw(), "f", Outcome.REJECTED)
    balance = world.balance()
    assert balance.missing == ["f"]
    assert not balance.balanced


def test_a_rerouted_record_is_one_receipt(world: World) -> None:
    first = world.raw()
    world.decide(first, "g", Outcome.REROUTED)
    again = world.raw(origin=first)
    in_between = world.balance()
    assert (in_between.accepted, in_between.in_flight, in_between.balanced) == (8, 1, True)
    world.decide(again, "g", Outcome.ACCEPTED)
    world.enrich("g")
    balance = world.balance()
    assert (balance.accepted, balance.gold, balance.in_flight) == (8, 4, 0)
    assert balance.balanced


def test_an_ingest_item_sent_twice_is_quarantined_once_and_a_duplicate_once(world: World) -> None:
    world.keep("bytes", None, stage="ingest")
    world.keep("bytes", None, stage="ingest", load="L2")
    balance = world.balance()
    assert (balance.accepted, balance.quarantined, balance.duplicates) == (9, 3, 2)
    assert balance.balanced


def test_a_forged_rerouting_header_hides_no_receipt(world: World) -> None:
    forged = world.raw(origin=0)
    world.decide(forged, "h", Outcome.ACCEPTED)
    world.enrich("h")
    balance = world.balance()
    assert (balance.accepted, balance.gold, balance.unexpected) == (8, 4, 0)
    assert balance.balanced


def test_an_item_of_ingest_is_resolved_by_the_replay_that_names_it(world: World) -> None:
    world.keep("bytes", None, stage="ingest")
    before = world.balance()
    world.send("mended", Outcome.ACCEPTED)
    world.keep("bytes", None, state="RESOLVED")
    balance = world.balance()
    assert (balance.quarantined, balance.resolved) == (before.quarantined - 1, before.resolved + 1)
    assert (balance.accepted, balance.gold) == (before.accepted + 1, before.gold + 1)
    assert balance.balanced


def test_a_conflict_is_resolved_by_the_replay_that_names_its_item(world: World) -> None:
    before = world.balance()
    world.send("b-2", Outcome.ACCEPTED)
    world.keep("b", None, state="RESOLVED")
    balance = world.balance()
    assert (balance.quarantined, balance.resolved) == (before.quarantined - 1, before.resolved + 1)
    assert balance.balanced


def test_a_replay_that_was_refused_again_resolves_nothing(world: World) -> None:
    before = world.balance()
    world.send("c", Outcome.DUPLICATE)
    world.keep("c", None, state="RETRIED")
    balance = world.balance()
    assert (balance.quarantined, balance.resolved) == (before.quarantined, before.resolved)
    assert balance.duplicates == before.duplicates + 1
    assert balance.balanced


def told(balance: Balance) -> list[tuple[str, str, list[str]]]:
    return [(each.kind, each.stage, list(each.ids)) for each in balance.findings]


def test_what_is_missing_is_told_with_its_stage_and_range(world: World) -> None:
    events = [f"lost-{number:03}" for number in range(120)]
    for event in events:
        world.send(event, Outcome.ACCEPTED)
    world.warehouse = [row for row in world.warehouse if row["id"] not in {sale_id(e) for e in events}]
    (finding,) = world.balance().findings
    assert (finding.kind, finding.stage, finding.count) == ("missing", "warehouse", 120)
    assert (finding.first, finding.last) == ("lost-000", "lost-119")
    assert list(finding.ids) == events[:100]
    assert str(finding) == (
        "120 missing at warehouse: lost-000, lost-001, lost-002, ... (lost-000 to lost-119)"
    )


def test_each_fault_is_named_with_its_stage(world: World) -> None:
    world.lake.append(world.lake[0])
    world.store_warehouse("stranger")
    world.warehouse[1]["amount_micros"] = 6
    assert told(world.balance()) == [
        ("doubled", "lake", ["a"]),
        ("unexpected", "warehouse", [f"sale_key {sale_id('stranger')}"]),
        ("differing", "lake and warehouse", ["b"]),
    ]


def test_an_outcome_that_is_counted_twice_is_named(world: World) -> None:
    world.decide(0, "a", Outcome.ACCEPTED)
    balance = world.balance()
    assert told(balance) == [("doubled", "quality", ["a"])]
    assert not balance.balanced
