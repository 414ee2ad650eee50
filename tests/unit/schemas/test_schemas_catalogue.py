"""The catalogue of topics is complete, and its mistakes are named."""

from pathlib import Path

import pytest

from schemas.catalogue import CatalogueError, load_captured, load_topics, register_all
from schemas.registry import RegistryClient

VALID = """
defaults:
  config: {compression.type: producer}
topics:
  a.v1:
    owner: o
    producers: [p]
    consumers: [c]
    key: k
    partitions: 3
    retention_ms: -1
    schema: a.avsc
"""


def catalogue(folder: Path, text: str, schema: str = '{"type": "record", "name": "A", "fields": []}') -> Path:
    (folder / "a.avsc").write_text(schema)
    path = folder / "topics.yaml"
    path.write_text(text)
    return path


def test_the_platforms_topics_are_all_there() -> None:
    topics = load_topics()
    stages = ["raw", "validated", "enriched", "quarantine", "decisions", "aggregates"]
    assert {f"sales.{stage}.v1" for stage in stages} <= topics.keys()
    assert {"dim.customers.v1", "dim.products.v1"} <= topics.keys()
    assert {topic.compatibility for topic in topics.values()} == {"BACKWARD"}


def test_captured_tables_are_kept_for_days_only() -> None:
    captured = load_captured()
    tables = ("customers", "products", "stock_levels", "price_list")
    assert list(captured) == [*(f"cdc.shop.{table}" for table in tables), "__debezium-heartbeat.cdc"]
    assert all(0 < topic.retention_ms <= 3 * 24 * 3600 * 1000 for topic in captured.values())
    assert {topic.compatibility for topic in captured.values()} == {"BACKWARD"}


def test_mistake_in_a_captured_topic_is_named(tmp_path: Path) -> None:
    text = VALID + "captured:\n  c:\n    owner: o\n"
    with pytest.raises(CatalogueError, match="c: lacks consumers, key"):
        load_captured(catalogue(tmp_path, text))


def test_what_is_kept_for_ever_is_what_the_ledger_and_replay_need() -> None:
    kept = {name for name, topic in load_topics().items() if topic.config["retention.ms"] == "-1"}
    assert {"dim.customers.v1", "dim.products.v1"} <= kept
    assert {name for name in kept if name.startswith("sales.")} == {
        f"sales.{stage}.v1" for stage in ("raw", "enriched", "quarantine", "decisions", "aggregates")
    }


def test_defaults_and_own_values_make_the_whole_configuration(tmp_path: Path) -> None:
    text = VALID + "    cleanup_policy: compact\n    config: {segment.ms: 1000}\n"
    topic = load_topics(catalogue(tmp_path, text))["a.v1"]
    assert topic.config == {
        "compression.type": "producer",
        "segment.ms": "1000",
        "retention.ms": "-1",
        "cleanup.policy": "compact",
    }
    assert (topic.subject, topic.partitions, topic.replication_factor) == ("a.v1-value", 3, 1)
    assert topic.schema_text == '{"type":"record","name":"A","fields":[]}'


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("partitions: 3", "partitions: 0"), "a.v1: partitions must be a whole number from 1, not 0"),
        (("partitions: 3", "partitions: true"), "partitions must be a whole number"),
        (("    owner: o\n", ""), "a.v1: lacks owner"),
        (("owner: o", "owner: o\n    ownr: p"), "a.v1: unknown ownr"),
        (("key: k", "key: k\n    compatibility: SOME"), "compatibility must be one of"),
        (("key: k", "key: k\n    cleanup_policy: burn"), "cleanup_policy must be one of"),
        (("a.avsc", "b.avsc"), "a.v1: cannot read its schema b.avsc"),
        (("topics:", "topic:"), "has no mapping 'topics'"),
    ],
)
def test_mistake_is_named(tmp_path: Path, change: tuple[str, str], message: str) -> None:
    with pytest.raises(CatalogueError, match=message):
        load_topics(catalogue(tmp_path, VALID.replace(*change)))


def test_compatibility_is_set_before_the_schema_is_registered() -> None:
    calls: list[tuple[str, ...]] = []

    class Recorder(RegistryClient):
        def __init__(self) -> None:
            pass

        def set_compatibility(self, subject: str, level: str) -> None:
            calls.append(("level", subject, level))

        def register(self, subject: str, schema: str) -> int:
            calls.append(("schema", subject))
            return len(calls)

    topics, captured = load_topics(), load_captured()
    assert list(register_all(Recorder(), topics, captured)) == list(topics)
    # The schema of a captured topic is the connector's to register.
    assert calls[2 * len(topics) :] == [("level", t.subject, "BACKWARD") for t in captured.values()]
    assert calls[:2] == [("level", "sales.raw.v1-value", "BACKWARD"), ("schema", "sales.raw.v1-value")]
