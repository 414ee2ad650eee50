"""Runs the queries once on scratch data, so that the first real record meets compiled code.

A cold JVM takes ten seconds and more for its first micro-batch: classes to load, code to generate and
compile. The warm-up runs the very plans of the real queries, Kafka source and Delta commit included, from a
topic of its own into tables that are deleted again. Nothing of it can reach a real table.
"""

from __future__ import annotations

import io
import json
import logging
import shutil
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import fastavro
from confluent_kafka import KafkaError, KafkaException, Producer
from confluent_kafka.admin import AdminClient, NewTopic

from gold_writer.lake.avro import frame_prefix
from gold_writer.lake.pipeline import SINK, Query, kafka_options, read
from gold_writer.lake.tables import create

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

_log = logging.getLogger(__name__)

_BATCHES: Final = 2
_SECONDS: Final = 90.0


class WarmupFailed(Exception):  # noqa: N818
    """The queries do not run even on scratch data."""


@dataclass(frozen=True, slots=True)
class Scratch:
    """Scratch records in Kafka: topic, and for each real topic its partition there and the first offset."""

    topic: str
    places: Mapping[str, tuple[int, int]]


def publish(bootstrap: str, topic: str, schemas: Mapping[str, tuple[int, str]]) -> Scratch:
    """Write a few empty records per schema. `schemas`: real topic -> schema id and text.

    Each real topic has a partition of the scratch topic. Raises KafkaException.
    """
    _create_topic(bootstrap, topic, len(schemas))
    producer = Producer({"bootstrap.servers": bootstrap, "linger.ms": 0, "acks": "all"}, logger=_log)
    first: dict[int, int] = {}

    def delivered(error: KafkaError | None, message: Any) -> None:
        if error is not None:
            raise KafkaException(error)
        first.setdefault(message.partition(), message.offset())

    for partition, (schema_id, text) in enumerate(schemas.values()):
        value = frame_prefix(schema_id) + _empty_record(json.loads(text))
        for _ in range(_BATCHES):
            producer.produce(
                topic,
                value,
                b"warm-up",
                partition=partition,
                headers=[("ce_source", b"warm-up")],
                on_delivery=delivered,
            )
    if producer.flush(15.0):
        raise WarmupFailed(f"Kafka did not take the records of {topic} within 15 s")
    return Scratch(topic, {name: (n, first[n]) for n, name in enumerate(schemas)})


def run(
    spark: SparkSession, queries: Sequence[Query], scratch: Scratch, bootstrap: str, folder: Path
) -> None:
    """Run every query over the scratch records. Raises WarmupFailed."""
    shutil.rmtree(folder, ignore_errors=True)
    started = [_start(spark, query, scratch, bootstrap, folder) for query in queries]
    deadline = time.monotonic() + _SECONDS
    try:
        for query in started:
            if not query.awaitTermination(max(deadline - time.monotonic(), 0)):
                raise WarmupFailed(f"{query.name} did not end within {_SECONDS:.0f} s")
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _start(spark: SparkSession, query: Query, scratch: Scratch, bootstrap: str, folder: Path) -> Any:
    partition, offset = scratch.places[query.source.topic]
    beginning = json.dumps({scratch.topic: {str(partition): offset}})
    options = kafka_options(query, bootstrap, 1, beginning)
    del options["subscribe"]
    options["assign"] = json.dumps({scratch.topic: [partition]})
    create(query.table, folder, query.source.topic_id)
    return (
        query.rows(read(spark, options))
        .writeStream.format(SINK)
        .queryName(f"warm-up-{query.name}")
        .option("checkpointLocation", str(folder / "checkpoints" / query.name))
        .trigger(availableNow=True)
        .start(str(query.table.path(folder)))
    )


def _create_topic(bootstrap: str, topic: str, partitions: int) -> None:
    config = {"retention.ms": "3600000", "cleanup.policy": "delete"}
    new = NewTopic(topic, num_partitions=partitions, replication_factor=1, config=config)
    admin = AdminClient({"bootstrap.servers": bootstrap}, logger=_log)
    try:
        admin.create_topics([new])[topic].result(15)
    except KafkaException as error:
        if error.args[0].code() != KafkaError.TOPIC_ALREADY_EXISTS:
            raise


def _empty_record(schema: Any) -> bytes:
    parsed = fastavro.parse_schema(schema)
    body = io.BytesIO()
    fastavro.schemaless_writer(body, parsed, empty_value(schema))
    return body.getvalue()


_EMPTY: Final[dict[str, Any]] = {
    "null": None, "boolean": False, "int": 0, "long": 0, "float": 0.0, "double": 0.0,
    "string": "", "bytes": b"", "map": {}, "array": [],
}  # fmt: skip


def empty_value(schema: Any) -> Any:
    """The smallest datum of an Avro schema made of records, unions and the types above."""
    if isinstance(schema, list):
        return empty_value(schema[0])
    kind = schema["type"] if isinstance(schema, dict) else schema
    if kind == "record":
        return {field["name"]: empty_value(field["type"]) for field in schema["fields"]}
    if isinstance(kind, dict | list):
        return empty_value(kind)
    return _EMPTY[kind]
