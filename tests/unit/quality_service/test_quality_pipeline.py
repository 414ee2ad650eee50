"""What leaves quality for what comes in: real codecs, rules, store and runner on a broker in memory."""

from __future__ import annotations

from collections import Counter
from datetime import datetime
from decimal import Decimal
from typing import Any

import polars as pl
import pytest

from quality_service.entries import Records, no_entries
from quality_service.memory_store import MemoryStore, MemoryStores
from quality_service.store import StoreFull
from schemas.decisions import Outcome
from schemas.identity import event_id, murmur2_partition, receipt_item_id, undecodable_event_id
from streamkit.ports import TransactionAborted
from tests.unit.quality_service.quality_bench import (
    DECISIONS,
    NOW_MS,
    PARTITIONS,
    QUARANTINE,
    RAW,
    SAMPLES,
    VALIDATED,
    Bench,
    sale,
    sales_of_csv,
)

DAYS = sorted(SAMPLES.glob("*.csv"))


def outcomes(bench: Bench) -> dict[tuple[int, int], Outcome]:
    rows = bench.decided().select("partition", "offset", "outcome").iter_rows()
    return {(partition, offset): Outcome(outcome) for partition, offset, outcome in rows}


def test_sample_days_are_accepted_but_for_negative_quantities() -> None:
    bench = Bench()
    sales = [s for day in DAYS for s in sales_of_csv(day)]
    bench.sell(*sales)
    bench.drain()
    refused = {s["event_id"] for s in sales if s["quantity"] < 0 and not s["invoice_no"].startswith("C")}
    quarantine = bench.read(QUARANTINE)
    assert set(quarantine["event_id"]) == refused
    assert set(quarantine["reason"]) <= {"NEGATIVE_QUANTITY"}
    validated = bench.read(VALIDATED)
    assert sorted(validated["event_id"]) == sorted(
        s["event_id"] for s in sales if s["event_id"] not in refused
    )
    total = sum(s["quantity"] * s["unit_price_micros"] for s in sales)
    kept = int((validated["quantity"].cast(pl.Int64) * validated["unit_price_micros"]).sum())
    assert kept + int(quarantine["amount_micros"].sum() or 0) == total
    assert Decimal(total) > 0


def test_loading_the_same_days_again_accepts_nothing() -> None:
    bench = Bench()
    sales = sales_of_csv(DAYS[0])
    bench.sell(*sales)
    bench.drain()
    first = sorted(bench.read(VALIDATED)["event_id"])
    quarantined = sorted(bench.read(QUARANTINE)["item_id"])
    bench.sell(*sales)
    bench.drain()
    assert sorted(bench.read(VALIDATED)["event_id"]) == first
    assert sorted(bench.read(QUARANTINE)["item_id"]) == quarantined
    counts = Counter(outcomes(bench).values())
    assert counts[Outcome.DUPLICATE] == len(sales)
    assert len(outcomes(bench)) == 2 * len(sales)


class Amnesiac(MemoryStore):
    """Sabotage: no deduplication."""

    def look_up(self, keys: Any) -> Records:
        return no_entries(len(keys))


class AmnesiacStores(MemoryStores):
    def open(self, topic_id: str, partition: int) -> MemoryStore:
        return Amnesiac()


def test_a_store_without_memory_is_caught_by_the_ids_of_a_second_load() -> None:
    bench = Bench(stores=AmnesiacStores())
    sales = sales_of_csv(DAYS[0])[:50]
    bench.sell(*sales)
    bench.drain()
    first = sorted(bench.read(VALIDATED)["event_id"])
    bench.sell(*sales)
    bench.drain()
    assert sorted(bench.read(VALIDATED)["event_id"]) != first


def test_validated_record_says_where_and_when_it_came_from() -> None:
    bench = Bench()
    ingested = NOW_MS - 250
    headers = [("ce_id", b"x"), ("ingest-ts", str(ingested).encode()), ("load-id", b"load-9")]
    bench.sell(sale(customer_id=" 17850.0 ", description="  "), headers=headers)
    bench.drain()
    (row,) = bench.read(VALIDATED).to_dicts()
    assert row["customer_id"] == "17850"
    assert row["description"] is None
    assert row["load_id"] == "load-9"
    assert row["ingest_ts"] == datetime.fromtimestamp(ingested / 1000)
    assert (row["raw_topic_id"], row["raw_offset"]) == (bench.raw.topic_id, 0)
    assert row["warnings"] == ["NO_DESCRIPTION"]
    assert row["quality_score"] == 0.9
    (record,) = bench.broker.committed_records(VALIDATED)
    assert record.key == b"536365"
    assert list(record.headers) == headers


def test_record_without_headers_takes_the_brokers_time_and_no_load() -> None:
    bench = Bench()
    bench.sell(sale())
    bench.drain()
    (row,) = bench.read(VALIDATED).to_dicts()
    assert row["load_id"] is None
    assert int(row["ingest_ts"].timestamp() * 1000) == NOW_MS


@pytest.mark.parametrize(
    ("given", "reason", "rules"),
    [
        ({"invoice_no": "  "}, "EMPTY_KEY", ["EMPTY_KEY"]),
        ({"stock_code": ""}, "EMPTY_KEY", ["EMPTY_KEY"]),
        ({"quantity": 0}, "ZERO_QUANTITY", ["ZERO_QUANTITY"]),
        ({"quantity": -1}, "NEGATIVE_QUANTITY", ["NEGATIVE_QUANTITY"]),
        ({"unit_price_micros": -1}, "NEGATIVE_PRICE", ["NEGATIVE_PRICE"]),
        ({"currency": "ZZZ"}, "BAD_CURRENCY", ["BAD_CURRENCY"]),
        ({"invoice_ts": datetime(1999, 12, 31)}, "TIMESTAMP_RANGE", ["TIMESTAMP_RANGE"]),
        ({"invoice_ts": datetime(2099, 1, 1)}, "TIMESTAMP_RANGE", ["TIMESTAMP_RANGE"]),
        ({"quantity": 2**31 - 1, "unit_price_micros": 2**63 - 1}, "AMOUNT_RANGE", ["AMOUNT_RANGE"]),
        (
            {"stock_code": " ", "quantity": -1, "currency": ""},
            "EMPTY_KEY",
            ["EMPTY_KEY", "NEGATIVE_QUANTITY", "BAD_CURRENCY"],
        ),
    ],
)
def test_rejected_record_is_quarantined_with_first_reason_all_rules_and_its_bytes(
    given: dict[str, Any], reason: str, rules: list[str]
) -> None:
    bench = Bench()
    bad, good = sale(**given), sale(line_no=2)
    values = bench.encode(bad, good)
    bench.sell(bad, good, headers=[("traceparent", b"00-abc-def-01")])
    bench.drain()
    (item,) = bench.read(QUARANTINE).to_dicts()
    assert (item["reason"], item["rules"]) == (reason, rules)
    assert (item["state"], item["stage"], item["payload_format"]) == ("OPEN", "quality", "avro")
    assert item["payload"] == values[0]
    assert item["schema_id"] == bench.ids[RAW]
    assert item["traceparent"] == "00-abc-def-01"
    assert item["item_id"] == receipt_item_id(bench.raw.topic_id, item["partition"], item["offset"])
    assert item["detail"]
    assert bench.read(VALIDATED)["event_id"].to_list() == [good["event_id"]]


@pytest.mark.parametrize(
    "given",
    [
        {"quantity": -1, "invoice_no": "C536365"},
        {"unit_price_micros": 0},
        {"currency": " gbp "},
        {"stock_code": "POST"},
        {"country": None, "customer_id": None},
    ],
)
def test_odd_but_valid_record_is_accepted(given: dict[str, Any]) -> None:
    bench = Bench()
    bench.sell(sale(**given))
    bench.drain()
    assert bench.read(QUARANTINE).is_empty()
    assert bench.read(VALIDATED).height == 1


UNREADABLE: dict[str, bytes | None] = {
    "no value": None,
    "empty": b"",
    "no header": b"\x00\x00",
    "wrong magic": b"\x01\x00\x00\x00\x01abc",
    "unknown schema": b"\x00\x00\x00\x03\xe7abc",
    "truncated": b"\x00\x00\x00\x00\x01\x10ab",
}


@pytest.mark.parametrize("value", UNREADABLE.values(), ids=list(UNREADABLE))
def test_undecodable_record_is_quarantined_and_its_neighbours_pass(value: bytes | None) -> None:
    bench = Bench()
    before, after = sale(line_no=1), sale(line_no=2)
    bench.send(bench.encode(before), event_ids=[before["event_id"]])
    bench.send([value], partition=1)
    bench.send(bench.encode(after), event_ids=[after["event_id"]])
    bench.drain()
    (item,) = bench.read(QUARANTINE).to_dicts()
    assert item["reason"] == "UNDECODABLE"
    assert item["rules"] == ["UNDECODABLE"]
    assert item["payload"] == (value or b"")
    assert item["event_id"] == undecodable_event_id(value or b"")
    assert set(bench.read(VALIDATED)["event_id"]) == {before["event_id"], after["event_id"]}


def test_batch_of_nothing_but_undecodable_records_is_quarantined() -> None:
    bench = Bench()
    bench.send([b"junk", b"more junk", b"junk"], partition=0)
    bench.drain()
    assert sorted(bench.read(QUARANTINE)["payload"]) == [b"junk", b"more junk"]
    assert Counter(outcomes(bench).values()) == {Outcome.REJECTED: 2, Outcome.DUPLICATE: 1}


def test_record_on_a_wrong_partition_is_passed_on_and_decided_once() -> None:
    bench = Bench()
    right = int(murmur2_partition([sale()["event_id"].encode()], PARTITIONS)[0])
    wrong = (right + 1) % PARTITIONS
    bench.send(bench.encode(sale()), partition=wrong, headers=[("load-id", b"l")])
    bench.drain()
    assert bench.read(VALIDATED)["event_id"].to_list() == [sale()["event_id"]]
    (passed_on,) = [
        record
        for record in bench.broker.committed_records(RAW)
        if any(name == "rerouted-from" for name, _ in record.headers)
    ]
    assert ("load-id", b"l") in passed_on.headers
    assert ("rerouted-from", f"{wrong}:0".encode()) in passed_on.headers
    assert passed_on.key == sale()["event_id"].encode()
    assert outcomes(bench)[wrong, 0] == Outcome.REROUTED
    assert [o for (p, _), o in outcomes(bench).items() if p == right] == [Outcome.ACCEPTED]


def test_record_without_event_id_gets_the_derived_one() -> None:
    bench = Bench()
    bench.sell(sale(event_id=" "))
    bench.drain()
    assert bench.read(VALIDATED)["event_id"].to_list() == [event_id("till-7", "536365", 1)]


def test_other_content_under_an_accepted_id_is_a_conflict_before_any_other_rule() -> None:
    bench = Bench()
    bench.sell(sale(), sale(quantity=0), sale(quantity=0), sale())
    bench.drain()
    (item,) = bench.read(QUARANTINE).to_dicts()
    assert item["reason"] == "ID_CONFLICT"
    assert item["rules"] == ["ID_CONFLICT", "ZERO_QUANTITY"]
    assert Counter(outcomes(bench).values()) == {
        Outcome.ACCEPTED: 1,
        Outcome.CONFLICT: 1,
        Outcome.DUPLICATE: 2,
    }


@pytest.mark.parametrize("together", [True, False])
def test_corrected_record_is_accepted_and_resolves_its_quarantine_item(together: bool) -> None:
    bench = Bench()
    bench.sell(sale(quantity=0))
    if not together:
        bench.drain()
    bench.sell(sale(quantity=5))
    bench.drain()
    items = bench.read(QUARANTINE)
    assert items["state"].to_list() == ["OPEN", "RESOLVED"]
    assert items["item_id"].n_unique() == 1
    assert items["event_id"].n_unique() == 1
    assert bench.read(VALIDATED)["quantity"].to_list() == [5]


def test_record_ahead_of_the_clock_is_accepted_once_its_time_has_come() -> None:
    bench = Bench()
    ahead = sale(invoice_ts=datetime(2023, 11, 20))
    bench.sell(ahead)
    bench.drain()
    bench.clock.advance(7 * 86_400)
    bench.sell(ahead)
    bench.drain()
    assert list(outcomes(bench).values()) == [Outcome.REJECTED, Outcome.ACCEPTED_RESOLVING]


def test_every_raw_record_has_one_decision() -> None:
    bench = Bench(max_records=7)
    bench.sell(*[sale(line_no=i, quantity=i % 3) for i in range(60)])
    bench.send(bench.encode(*[sale(line_no=i) for i in range(60, 90)]), partition=0)
    bench.send([b"junk"] * 3, partition=2)
    bench.drain()
    raw = {
        (partition, record.offset)
        for partition in range(PARTITIONS)
        for record in bench.broker.log(bench.broker.partitions(RAW)[partition]).read(0, 10_000)
    }
    assert set(outcomes(bench)) == raw
    assert bench.decided().height == len(raw)
    batches = bench.read(DECISIONS).sort("partition", "begin_offset")
    for partition in range(PARTITIONS):
        own = batches.filter(pl.col("partition") == partition)
        assert (own["begin_offset"][1:] >= own["end_offset"][:-1]).all()


def test_registry_outage_pauses_and_quarantines_nothing() -> None:
    bench = Bench()
    bench.registry.available = False
    bench.sell(sale())
    bench.drain()
    assert bench.stats.state == "degraded"
    assert bench.broker.committed_records(QUARANTINE) == []
    assert bench.broker.committed_records(DECISIONS) == []
    bench.registry.available = True
    bench.clock.advance(60)
    bench.drain()
    assert bench.read(VALIDATED)["event_id"].to_list() == [sale()["event_id"]]


def test_unknown_schema_during_an_outage_pauses_its_partition_and_no_other() -> None:
    bench = Bench()
    bench.sell(sale(line_no=1))
    bench.drain()
    assert bench.read(VALIDATED).height == 1  # so that the outage does not keep the test from reading
    bench.registry.available = False
    unknown = b"\x00\x00\x00\x03\xe7abc"
    ids = [sale(line_no=i)["event_id"] for i in range(2, 40)]
    stuck = int(murmur2_partition([ids[0].encode()], PARTITIONS)[0])
    bench.send([unknown], partition=stuck)
    bench.sell(*[sale(line_no=i) for i in range(2, 40)])
    bench.drain()
    elsewhere = {e for e in ids if murmur2_partition([e.encode()], PARTITIONS)[0] != stuck}
    assert set(bench.read(VALIDATED)["event_id"]) == {sale(line_no=1)["event_id"], *elsewhere}
    assert bench.broker.committed_records(QUARANTINE) == []
    bench.registry.available = True
    bench.clock.advance(60)
    bench.drain()
    assert set(bench.read(VALIDATED)["event_id"]) == {sale(line_no=1)["event_id"], *ids}
    assert bench.read(QUARANTINE)["payload"].to_list() == [unknown]


def test_new_process_with_an_empty_disk_still_knows_what_was_accepted() -> None:
    bench = Bench()
    bench.sell(*[sale(line_no=i) for i in range(1, 20)])
    bench.drain()
    bench.runner.close()
    bench.stores = MemoryStores()
    bench.restart()
    bench.sell(*[sale(line_no=i) for i in range(1, 25)])
    bench.drain()
    accepted = bench.read(VALIDATED)["event_id"].to_list()
    assert sorted(accepted) == sorted({sale(line_no=i)["event_id"] for i in range(1, 25)})


def test_nul_characters_are_left_out() -> None:
    bench = Bench()
    bench.sell(sale(description="A\x00B"))
    bench.drain()
    assert bench.read(VALIDATED)["description"].to_list() == ["AB"]


@pytest.mark.parametrize("ingest_ts", [b"-5", b"9" * 40, b"soon", b""])
def test_implausible_ingest_time_is_replaced_by_the_brokers(ingest_ts: bytes) -> None:
    bench = Bench()
    bench.sell(sale(), headers=[("ingest-ts", ingest_ts)])
    bench.drain()
    assert int(bench.read(VALIDATED)["ingest_ts"][0].timestamp() * 1000) == NOW_MS


def test_aborted_transaction_counts_nothing_twice() -> None:
    bench = Bench()
    bench.broker.fail_next("commit", TransactionAborted("rebalance", retriable=True))
    bench.sell(*[sale(line_no=i) for i in range(1, 6)])
    bench.drain()
    assert sorted(bench.read(VALIDATED)["event_id"]) == sorted(
        sale(line_no=i)["event_id"] for i in range(1, 6)
    )
    counted = bench.stats.registry.get_sample_value(
        "tillstream_quality_outcomes_total", {"outcome": "ACCEPTED"}
    )
    assert counted == 5


def test_a_full_disk_pauses_the_stage_and_loses_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    bench = Bench()
    whole, full = MemoryStore.apply, True

    def apply(store: MemoryStore, *arguments: Any) -> None:
        # The other partitions are written, as on a disk that fills up in the middle of it.
        if full and bench.state._partitions[1].store is store:
            raise StoreFull("no space left")
        whole(store, *arguments)

    monkeypatch.setattr(MemoryStore, "apply", apply)
    ids = [sale(line_no=i)["event_id"] for i in range(1, 41)]
    bench.sell(*[sale(line_no=i) for i in range(1, 41)])
    bench.runner.start()
    for _ in range(30):
        bench.runner.step()
        bench.clock.advance(1)
    assert bench.stats.readiness() == (False, "no space left")
    assert bench.read(DECISIONS).is_empty()
    full = False
    for _ in range(30):
        bench.runner.step()
        bench.clock.advance(1)
    assert bench.stats.state == "ready"
    assert sorted(bench.read(VALIDATED)["event_id"]) == sorted(ids)
