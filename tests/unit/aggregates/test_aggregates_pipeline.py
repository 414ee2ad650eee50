"""From records to records: what goes out, and what is refused."""

from __future__ import annotations

import datetime as dt
from typing import Any

import pytest

from gold_writer.aggregates.changelog import StateError
from gold_writer.aggregates.pipeline import CorruptInput
from gold_writer.aggregates.windows import UnknownDifference
from streamkit.memory import MemoryConsumer, MemoryProducer
from streamkit.ports import Headers, OutputBatch, RecordBatch, TopicPartition
from tests.unit.aggregates.aggregates_world import AGGREGATES, AT, ENRICHED, GROUP, World, recount

MIDNIGHT, EPOCH = dt.datetime(2010, 12, 1), dt.datetime(1970, 1, 1)


def records(world: World) -> RecordBatch:
    """All that was sent, as one batch."""
    consumer = MemoryConsumer(world.broker, "looking on")
    consumer.subscribe([ENRICHED], on_assign=lambda _: None, on_revoke=lambda _: None, on_lost=lambda _: None)
    (batch,) = consumer.poll(1000, 1 << 20, 1.0, 0.0)
    consumer.close()
    return batch


def outputs(world: World) -> list[OutputBatch]:
    state = world.state()
    state.assigned({TopicPartition(ENRICHED, p): None for p in range(world.partitions)})
    return list(world.pipeline(state).process(records(world)))


def test_a_sale_changes_its_minute_its_day_and_the_total() -> None:
    world = World()
    world.send([{}])
    world.run()
    assert world.published() == {
        ("minute_country", AT, "EIRE", 0): (1, 6, 15_300_000, 15_300_000, 0),
        ("day_product", MIDNIGHT, "85123A", 0): (1, 6, 15_300_000, 15_300_000, 0),
        ("total", EPOCH, "", 0): (1, 6, 15_300_000, 15_300_000, 0),
    }


def test_a_return_counts_as_negative_and_apart_from_gross() -> None:
    world = World()
    world.send([{}, {"event_id": "e2", "is_return": True, "quantity": -2, "amount_gbp_micros": -5_100_000}])
    world.run()
    assert world.published()["total", EPOCH, "", 0] == (2, 4, 10_200_000, 15_300_000, -5_100_000)


def test_a_sale_without_a_rate_counts_as_a_line_and_adds_no_amount() -> None:
    world = World()
    world.send([{"amount_gbp_micros": None}])
    world.run()
    assert world.published()["total", EPOCH, "", 0] == (1, 6, 0, 0, 0)


def test_sums_beyond_64_bits_stay_exact() -> None:
    world = World(max_records=3)
    huge = {"amount_gbp_micros": 2**63 - 1, "quantity": 2**31 - 1}
    world.send([huge | {"event_id": f"e{i}"} for i in range(25)])
    world.send([{"event_id": "back", "is_return": True, "amount_gbp_micros": -(2**63)}])
    world.run()
    gross, returns = 25 * (2**63 - 1), -(2**63)
    totals = world.published()["total", EPOCH, "", 0]
    assert totals == (26, 25 * (2**31 - 1) + 6, gross + returns, gross, returns)
    assert world.published() == recount(world.sales)


def test_keys_name_grain_window_dimension_and_shard_and_lie_in_the_shards_partition() -> None:
    world = World()
    world.send([{}])
    world.send([{"event_id": "e2", "country": None}], partition=1)
    (out,) = outputs(world)
    assert list(out.key) == [
        b"minute_country|2010-12-01T08:26:00Z|EIRE|0",
        b"day_product|2010-12-01T00:00:00Z|85123A|0",
        b"total|1970-01-01T00:00:00Z||0",
        b"minute_country|2010-12-01T08:26:00Z||1",
        b"day_product|2010-12-01T00:00:00Z|85123A|1",
        b"total|1970-01-01T00:00:00Z||1",
    ]
    assert list(out.partition or ()) == [0, 0, 0, 1, 1, 1]


def test_the_total_comes_last_and_tells_the_next_input_offset_and_the_earliest_acceptance() -> None:
    world = World()
    late, early = AT + dt.timedelta(seconds=9), AT + dt.timedelta(seconds=2)
    world.send([{"ingest_ts": late}, {"event_id": "e2", "ingest_ts": early, "country": "France"}])
    (out,) = outputs(world)
    rows = world.codecs[AGGREGATES].decode(out.value).frame.to_dicts()
    assert [row["grain"] for row in rows] == ["minute_country", "minute_country", "day_product", "total"]
    assert {row["input_offset"] for row in rows} == {2}
    assert out.headers is not None
    assert [list(h) for h in out.headers[:-1]] == [[]] * 3
    at = round(early.replace(tzinfo=dt.UTC).timestamp() * 1000)
    assert list(out.headers[-1]) == [("ingest-ts", str(at).encode())]


def revision(number: int, gbp: int | None, replaces: bytes | None, **row: Any) -> tuple[Any, list[Headers]]:
    headers: Headers = [] if replaces is None else [("load-id", b"x"), ("replaces", replaces)]
    return [{"revision": number, "amount_gbp_micros": gbp} | row], [headers]


def test_a_revision_applies_the_difference_and_counts_no_second_line() -> None:
    world = World()
    world.send([{"amount_gbp_micros": None}, {"event_id": "e2"}])
    world.run()
    for sales, headers in (revision(1, 7_000_000, b"0:"), revision(2, 5_000_000, b"1:7000000")):
        world.send(sales, headers=headers)
        world.run()
    assert world.published()["total", EPOCH, "", 0] == (2, 12, 20_300_000, 20_300_000, 0)
    assert world.published() == recount(world.sales)


def test_a_return_that_is_revised_changes_returns() -> None:
    world = World()
    world.send([{"is_return": True, "amount_gbp_micros": -4_000_000}])
    sales, headers = revision(1, -3_000_000, b"0:-4000000", is_return=True)
    world.send(sales, headers=headers)
    world.run()
    assert world.published() == recount(world.sales)


@pytest.mark.parametrize(
    "replaces", [None, b"", b"1:5", b"-1:5", b"0:5.0", b"x", b"0", b"0:5 ", b"0:" + b"9" * 30]
)
def test_a_revision_that_does_not_say_what_it_replaces_stops_the_stage(replaces: bytes | None) -> None:
    world = World()
    sales, headers = revision(1, 7_000_000, replaces)
    world.send(sales, headers=headers)
    with pytest.raises(UnknownDifference, match="event e1 has revision 1"):
        world.run()
    assert world.published() == {}


@pytest.mark.parametrize("garbage", [b"", b"not avro", None])
def test_a_record_that_is_no_sale_stops_the_stage_and_is_named(garbage: bytes | None) -> None:
    world = World()
    world.send([{}])
    MemoryProducer(world.broker).produce([OutputBatch(ENRICHED, [garbage], [b"k"], partition=[0])], 1)
    with pytest.raises(CorruptInput, match=r"sales\.enriched\.v1\[0\]@1"):
        world.run()


def test_a_registry_outage_pauses_and_loses_nothing() -> None:
    world = World()
    world.send([{}])
    runner = world.runner()
    world.registry.available = False
    runner.start()
    assert not runner.step()
    assert not runner.step()
    assert world.stats.readiness() == (False, "registry: the registry is down")
    world.registry.available = True
    world.clock.advance(10)
    world.drain(runner)
    assert world.published() == recount(world.sales)


def test_offsets_that_were_set_back_are_refused() -> None:
    world = World()
    world.send([{"event_id": f"e{i}"} for i in range(20)])
    world.run()
    world.broker.group(GROUP).committed[TopicPartition(ENRICHED, 0)] = 5
    with pytest.raises(StateError, match="moved back or lost"):
        world.run()
    world.kill()
    del world.broker.group(GROUP).committed[TopicPartition(ENRICHED, 0)]
    with pytest.raises(StateError, match="committed None"):
        world.run()


def test_totals_that_were_lost_are_refused() -> None:
    world = World()
    world.send([{}])
    world.broker.group(GROUP).committed[TopicPartition(ENRICHED, 0)] = 1
    runner = world.runner()
    runner.start()
    with pytest.raises(StateError, match="totals were lost"):
        runner.step()


def test_the_totals_of_another_shard_are_refused() -> None:
    world = World()
    world.send([{}])
    (out,) = outputs(world)
    wrong = OutputBatch(AGGREGATES, out.value, out.key, partition=[1] * len(out))
    MemoryProducer(world.broker).produce([wrong], 1)
    with pytest.raises(StateError, match="another shard"):
        world.run()
