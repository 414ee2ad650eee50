"""The pipeline from record to record, through the real codec."""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from typing import Any

import numpy as np
import polars as pl
import pytest

from enrich_service.countries import CountryTable
from enrich_service.pipeline import TOPIC_IN, TOPIC_OUT, CorruptInput, EnrichPipeline
from enrich_service.reference import load_rates
from schemas.catalogue import load_topics
from schemas.codec import Codec
from schemas.fakes import InMemoryRegistry
from schemas.reference import countries
from streamkit.clock import FakeClock
from streamkit.ports import OutputBatch, Paused, RecordBatch, TopicPartition

AT = dt.datetime(2010, 12, 1, 8, 26)  # UTC: the codec's times carry no zone
NOW_MS = 1_700_000_000_000


class Bench:
    """The pipeline with a registry in memory."""

    def __init__(self) -> None:
        topics = load_topics()
        self.registry = InMemoryRegistry()
        self.validated_id = self.registry.register(topics[TOPIC_IN].subject, topics[TOPIC_IN].schema_text)
        enriched_id = self.registry.register(topics[TOPIC_OUT].subject, topics[TOPIC_OUT].schema_text)
        self.validated = Codec(topics[TOPIC_IN].schema_text, self.registry)
        self.enriched = Codec(topics[TOPIC_OUT].schema_text, self.registry)
        self.observed: list[pl.DataFrame] = []
        self.pipeline = EnrichPipeline(
            reader=Codec(topics[TOPIC_IN].schema_text, self.registry),
            writer=self.enriched,
            schema_id=enriched_id,
            countries=CountryTable(countries()),
            rates=load_rates(),
            clock=FakeClock(NOW_MS),
            observe=self.observed.append,
        )

    def records(self, rows: Sequence[dict[str, Any]]) -> RecordBatch:
        frame = pl.DataFrame([sale() | row for row in rows], schema=dict(self.validated.columns))
        return batch_of(self.validated.encode(frame, self.validated_id))


def batch_of(values: Sequence[bytes | None]) -> RecordBatch:
    n = len(values)
    return RecordBatch(
        topic=TOPIC_IN,
        partition=np.arange(n, dtype=np.int32) % 2,
        offset=np.arange(n, dtype=np.int64) + 100,
        timestamp_ms=np.zeros(n, dtype=np.int64),
        key=[b"536365"] * n,
        value=values,
        headers=[[("ce_id", str(i).encode()), ("traceparent", b"00-aa-bb-01")] for i in range(n)],
    )


def sale() -> dict[str, Any]:
    return {
        "event_id": "e0",
        "source_system": "online-retail",
        "invoice_no": "536365",
        "line_no": 1,
        "stock_code": "85123A",
        "description": "HEART",
        "quantity": 6,
        "unit_price_micros": 2_550_000,
        "currency": "GBP",
        "customer_id": "17850",
        "country": "EIRE",
        "invoice_ts": AT,
        "attributes": {"till": "7"},
        "content_hash": "h",
        "quality_score": 0.9,
        "warnings": ["NO_DESCRIPTION"],
        "load_id": "load-1",
        "ingest_ts": AT,
        "raw_topic_id": "topic",
        "raw_partition": 2,
        "raw_offset": 77,
        "validated_ts": AT,
    }


@pytest.fixture
def bench() -> Bench:
    return Bench()


def decoded(bench: Bench, out: OutputBatch) -> list[dict[str, Any]]:
    result = bench.enriched.decode(out.value)
    assert result.bad == []
    return result.frame.to_dicts()


def test_sale_leaves_enriched_and_otherwise_unchanged(bench: Bench) -> None:
    (out,) = bench.pipeline.process(bench.records([{}]))
    (row,) = decoded(bench, out)
    before = sale()
    attributes = row.pop("attributes")
    assert attributes in ({"till": "7"}, [{"key": "till", "value": "7"}], [("till", "7")])
    assert {name: row[name] for name in before if name != "attributes"} == {
        name: value for name, value in before.items() if name != "attributes"
    }
    assert (row["country_code"], row["region"]) == ("IE", "Europe")
    assert row["total_amount_micros"] == row["amount_gbp_micros"] == 15_300_000
    assert (row["validated_partition"], row["validated_offset"]) == (0, 100)
    assert (row["is_return"], row["is_product"], row["date_key"]) == (False, True, 20101201)
    assert (row["revision"], row["recorded_at"].replace(tzinfo=dt.UTC).timestamp() * 1000) == (0, NOW_MS)


def test_records_go_out_in_order_keyed_by_invoice_with_their_headers(bench: Bench) -> None:
    batch = bench.records([{"event_id": f"e{i}", "invoice_no": f"C{i}"} for i in range(5)])
    (out,) = bench.pipeline.process(batch)
    assert out.topic == TOPIC_OUT
    assert out.partition is None
    assert list(out.key) == [b"C0", b"C1", b"C2", b"C3", b"C4"]
    assert out.headers == batch.headers
    rows = decoded(bench, out)
    assert [row["event_id"] for row in rows] == ["e0", "e1", "e2", "e3", "e4"]
    assert [(row["validated_partition"], row["validated_offset"]) for row in rows] == [
        (0, 100), (1, 101), (0, 102), (1, 103), (0, 104),
    ]  # fmt: skip


def test_row_with_nothing_to_resolve_still_leaves(bench: Bench) -> None:
    nothing = {"country": "Atlantis", "currency": "XAU", "customer_id": None, "description": None}
    (out,) = bench.pipeline.process(bench.records([nothing]))
    (row,) = decoded(bench, out)
    assert (row["country_code"], row["region"], row["amount_gbp_micros"]) == (None, None, None)
    assert row["customer_key"] == -1


def test_foreign_currency_is_converted_at_the_rate_of_its_day(bench: Bench) -> None:
    (out,) = bench.pipeline.process(bench.records([{"currency": "EUR"}]))
    # ECB, Friday 2010-11-26: EUR 1 = GBP 0.8447. The next weekly rate is later than the sale.
    assert decoded(bench, out)[0]["amount_gbp_micros"] == 12_923_910


def test_same_batch_twice_gives_the_same_bytes(bench: Bench) -> None:
    batch = bench.records([{"event_id": f"e{i}"} for i in range(20)])
    assert bench.pipeline.process(batch)[0].value == bench.pipeline.process(batch)[0].value


def test_metrics_see_each_batch(bench: Bench) -> None:
    bench.pipeline.process(bench.records([{}, {"country": None}]))
    assert [frame["country_code"].null_count() for frame in bench.observed] == [1]


@pytest.mark.parametrize("garbage", [b"", b"\x00\x00", b"not avro at all", None])
def test_record_that_is_no_sale_stops_the_stage_and_is_named(bench: Bench, garbage: bytes | None) -> None:
    good = bench.records([{}]).value[0]
    with pytest.raises(CorruptInput, match=r"sales\.validated\.v1\[1\]@101"):
        bench.pipeline.process(batch_of([good, garbage]))


def test_registry_outage_pauses_and_loses_nothing(bench: Bench) -> None:
    batch = bench.records([{}, {}])
    bench.registry.available = False
    with pytest.raises(Paused) as paused:
        bench.pipeline.process(batch)
    assert paused.value.partitions == {TopicPartition(TOPIC_IN, 0), TopicPartition(TOPIC_IN, 1)}
    bench.registry.available = True
    assert len(bench.pipeline.process(batch)[0]) == 2
