"""The composition root: reads the environment and constructs what the job needs."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from confluent_kafka import KafkaException

from gold_writer.lake import guard, rebuild
from gold_writer.lake.avro import NoSchema, decode_expression
from gold_writer.lake.jvm import JvmOptions
from gold_writer.lake.pipeline import Query, Source
from gold_writer.lake.settings import LakeSettings
from gold_writer.lake.tables import BRONZE, FACT, QUARANTINE, SILVER, create
from gold_writer.lake.topics import Topics, TopicsUnavailable
from gold_writer.lake.warmup import Scratch, publish
from schemas.catalogue import load_topics
from schemas.registry import RegistryClient, RegistryUnavailable

_log = logging.getLogger(__name__)
_T = TypeVar("_T")

_WAIT_SECONDS = 60.0


@dataclass(frozen=True, slots=True)
class Planned:
    """A query with where it begins (None: its checkpoint, or the beginning) and its table's version."""

    query: Query
    checkpoint: Path
    offsets: dict[int, int] | None
    table_version: int


@dataclass(frozen=True, slots=True)
class Plan:
    queries: tuple[Planned, ...]
    scratch: Scratch


def jvm_options(settings: LakeSettings, *, record_archive: bool = False) -> JvmOptions:
    return JvmOptions(
        java=settings.java,
        jars=settings.spark_jars,
        heap=settings.heap,
        scratch=settings.scratch,
        archive=settings.class_archive,
        record_archive=record_archive,
        more=tuple(settings.jvm_options.split()),
    )


def queries(settings: LakeSettings, topic_ids: dict[str, str], decode: dict[str, str]) -> tuple[Query, ...]:
    """The four queries, the fact first: it has the tightest objective."""

    def source(topic: str) -> Source:
        return Source(topic, topic_ids[topic], decode.get(topic))

    slow = settings.slow_trigger_ms
    return (
        Query("fact", source(settings.enriched_topic), FACT, settings.fact_trigger_ms),
        Query("silver", source(settings.enriched_topic), SILVER, slow),
        Query("bronze", source(settings.raw_topic), BRONZE, slow),
        Query("quarantine", source(settings.quarantine_topic), QUARANTINE, slow),
    )


def plan(settings: LakeSettings) -> Plan:
    """Everything that is decided before Spark is there: schemas, tables, where each query begins.

    Waits a minute for Kafka and the registry. Raises guard.Refused, or what is still missing then.
    """
    topics = (settings.raw_topic, settings.enriched_topic, settings.quarantine_topic)
    ids = waiting(lambda: Topics(settings.kafka).ids(topics))
    writers = waiting(lambda: _writers(settings))
    readers = _readers(settings)
    decode = {topic: decode_expression(_subject(topic), writers[topic], readers[topic]) for topic in writers}
    planned = tuple(_planned(settings, query) for query in queries(settings, ids, decode))
    newest = {topic: max(schemas.items()) for topic, schemas in writers.items()}
    # The raw topic is stored as it came: any record warms its query up.
    newest[settings.raw_topic] = newest[settings.enriched_topic]
    return Plan(planned, waiting(lambda: publish(settings.kafka, settings.warmup_topic, newest)))


def waiting(attempt: Callable[[], _T], seconds: float = _WAIT_SECONDS) -> _T:
    """The answer of `attempt`, asked again each second while a server it needs is not there."""
    deadline = time.monotonic() + seconds
    while True:
        try:
            return attempt()
        except (TopicsUnavailable, RegistryUnavailable, NoSchema, KafkaException) as error:
            if time.monotonic() > deadline:
                raise
            _log.warning("waiting", extra={"reason": str(error)})
            time.sleep(1.0)


def _planned(settings: LakeSettings, query: Query) -> Planned:
    checkpoint = settings.checkpoints / query.name
    create(query.table, settings.lake, query.source.topic_id)
    state = guard.CheckpointState.read(checkpoint)
    table = guard.TableState.read(query.table.name, query.table.path(settings.lake), state.query_id)
    offsets = guard.check(table, state, query.source.topic, query.source.topic_id)
    guard.settle(checkpoint, state, table.batch)
    return Planned(query, checkpoint, offsets, table.version)


def _writers(settings: LakeSettings) -> dict[str, dict[int, str]]:
    """Topic -> every schema id of its subject with its text."""
    registry = RegistryClient(settings.registry)
    found = {t: registry.ids(_subject(t)) for t in (settings.enriched_topic, settings.quarantine_topic)}
    for topic, ids in found.items():
        if not ids:
            raise NoSchema(f"the registry has no schema for the subject {_subject(topic)}")
    return found


def _readers(settings: LakeSettings) -> dict[str, str]:
    catalogue = load_topics()
    return {
        settings.enriched_topic: catalogue["sales.enriched.v1"].schema_text,
        settings.quarantine_topic: catalogue["sales.quarantine.v1"].schema_text,
    }


def _subject(topic: str) -> str:
    return f"{topic}-value"


def rebuild_all(settings: LakeSettings) -> None:
    """New checkpoints for all tables. The lake writer must not run. Raises guard.Refused."""
    topics = Topics(settings.kafka)
    names = (settings.raw_topic, settings.enriched_topic, settings.quarantine_topic)
    ids, partitions = waiting(lambda: topics.ids(names)), waiting(lambda: topics.partitions(names))
    for query in queries(settings, ids, {}):
        topic = query.source.topic
        create(query.table, settings.lake, ids[topic])
        checkpoint = settings.checkpoints / query.name
        rebuild.rebuild(query.table, settings.lake, checkpoint, ids[topic], partitions[topic])
