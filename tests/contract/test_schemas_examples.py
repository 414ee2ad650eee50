"""Every topic ships examples, and they mean what they say."""

import datetime as dt
import io
from typing import Any

import fastavro
import orjson
import polars as pl
import pytest

from schemas import identity
from schemas.catalogue import HERE, Topic, load_topics
from schemas.codec import Codec
from schemas.decisions import Outcome, unpack
from schemas.example_files import examples
from schemas.fakes import InMemoryRegistry

TOPICS = load_topics()


def records(topic: Topic) -> list[dict[str, Any]]:
    loaded: list[dict[str, Any]] = orjson.loads((HERE / "examples" / f"{topic.name}.json").read_bytes())
    return loaded


@pytest.mark.parametrize("topic", TOPICS.values(), ids=TOPICS)
def test_examples_of_a_topic_survive_the_codec(topic: Topic) -> None:
    registry = InMemoryRegistry()
    schema_id = registry.register(topic.subject, topic.schema_text)
    codec = Codec(topic.schema_text, registry)
    frame = examples(topic)
    result = codec.decode(list(codec.encode(frame, schema_id)))
    assert result.bad == []
    assert result.frame.equals(frame)
    assert len(frame) == len(records(topic)) >= 1


@pytest.mark.parametrize("topic", TOPICS.values(), ids=TOPICS)
def test_plain_avro_reader_sees_the_examples_with_their_times(topic: Topic) -> None:
    registry = InMemoryRegistry()
    schema_id = registry.register(topic.subject, topic.schema_text)
    values = Codec(topic.schema_text, registry).encode(examples(topic), schema_id)
    schema = fastavro.parse_schema(orjson.loads(topic.schema_text))
    for value, record in zip(values, records(topic), strict=True):
        seen: Any = fastavro.schemaless_reader(io.BytesIO(value[5:]), schema, None)
        for name, given in record.items():
            if isinstance(seen[name], dt.datetime):
                assert seen[name] == dt.datetime.fromisoformat(given)
            elif not isinstance(seen[name], bytes):
                assert seen[name] == given


@pytest.mark.parametrize("topic", ["sales.raw.v1", "sales.validated.v1", "sales.enriched.v1"])
def test_examples_carry_the_ids_and_keys_that_the_platform_derives(topic: str) -> None:
    frame = examples(TOPICS[topic])
    assert identity.normalise(frame).equals(frame)
    derived = {
        "event_id": identity.event_id_expr(),
        "content_hash": identity.content_hash_expr(),
        "sale_key": identity.sale_key_expr(),
        "customer_key": identity.customer_key_expr(),
        "product_key": identity.product_key_expr(),
        "invoice_key": identity.invoice_key_expr(),
    }
    present = {name: expr for name, expr in derived.items() if name in frame.columns}
    assert frame.select(**present).equals(frame.select(present.keys()))


def test_packed_decisions_of_the_first_release_can_be_read() -> None:
    """The example is stored bytes: what an installation's changelog holds must stay readable."""
    batch = examples(TOPICS["sales.decisions.v1"]).row(0, named=True)
    rows = unpack(batch["payload"])
    assert len(rows) == batch["rows"]
    assert rows["offset"].to_list() == list(range(batch["begin_offset"], batch["end_offset"]))
    assert rows["outcome"].to_list() == [Outcome.ACCEPTED]
    assert rows["event_id"].to_list() == examples(TOPICS["sales.raw.v1"])["event_id"][:1].to_list()


def test_quarantined_examples_keep_their_bytes() -> None:
    frame = examples(TOPICS["sales.quarantine.v1"])
    by_stage = {row["stage"]: row for row in frame.iter_rows(named=True)}
    line = by_stage["ingest"]
    assert line["item_id"] == identity.item_id(line["source_system"], line["ordinal"], line["payload"])
    record = by_stage["quality"]
    assert record["item_id"] == identity.receipt_item_id(
        record["topic_id"], record["partition"], record["offset"]
    )
    assert record["event_id"] == identity.undecodable_event_id(record["payload"])
    assert record["content_hash"] == identity.bytes_hash(record["payload"])


def test_mistake_in_an_example_names_its_topic(tmp_path: Any) -> None:
    topic = TOPICS["sales.aggregates.v1"]
    (tmp_path / f"{topic.name}.json").write_text('[{"grains": "minute"}]')
    with pytest.raises(ValueError, match=r"sales\.aggregates\.v1: the schema has no grains"):
        examples(topic, tmp_path)


def test_times_in_examples_are_utc_without_zone() -> None:
    first = examples(TOPICS["sales.raw.v1"])["invoice_ts"]
    assert first.dtype == pl.Datetime("ms")
    assert first[0] == dt.datetime(2010, 12, 1, 8, 26)
