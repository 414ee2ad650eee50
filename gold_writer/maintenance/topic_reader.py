"""Topics read from positions that the reader's tables keep: no group, nothing committed to Kafka."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Final

import confluent_kafka as ck

from streamkit.kafka.batches import by_topic
from streamkit.kafka.errors import translate
from streamkit.ports import RecordBatch, TopicPartition

_LIST_SECONDS: Final = 10.0
_log = logging.getLogger("rdkafka")


class TopicReader:
    """Not thread-safe: it belongs to the thread of its job."""

    def __init__(self, bootstrap: str, name: str) -> None:
        self._client = ck.Consumer(
            {
                "bootstrap.servers": bootstrap,
                "group.id": f"{name}.reader",
                "client.id": name,
                "enable.auto.commit": False,
                # A position that the topic no longer has means lost records: never skip to another.
                "auto.offset.reset": "error",
                "isolation.level": "read_committed",
                "fetch.queue.backoff.ms": 10,
                "reconnect.backoff.max.ms": 1_000,
                "allow.auto.create.topics": False,
            },
            logger=_log,
        )

    def topics(self) -> dict[str, int]:
        """Every topic with its number of partitions. Raises BrokerError."""
        try:
            known = self._client.list_topics(timeout=_LIST_SECONDS).topics
        except ck.KafkaException as error:
            raise translate(error, "list of topics") from error
        return {name: len(topic.partitions) for name, topic in known.items()}

    def open(self, positions: Mapping[TopicPartition, int | None]) -> None:
        """Read on from these offsets; None: from the oldest record that is kept."""
        self._client.assign(
            [
                ck.TopicPartition(tp.topic, tp.partition, ck.OFFSET_BEGINNING if at is None else at)
                for tp, at in positions.items()
            ]
        )

    def poll(self, max_records: int, timeout_s: float) -> list[RecordBatch]:
        """What is there, at most one batch a topic; empty after `timeout_s` without a record.

        Raises BrokerError.
        """
        messages = self._client.consume(1, timeout_s)
        if messages:
            messages += self._client.consume(max_records - 1, 0.05)
        for message in messages:
            if (error := message.error()) is not None and not _passes(error):
                raise translate(ck.KafkaException(error), f"read {message.topic()}")
        return by_topic([message for message in messages if message.error() is None])

    def close(self) -> None:
        self._client.close()


def _passes(error: ck.KafkaError) -> bool:
    """Whether the client goes on by itself."""
    down = (ck.KafkaError._TRANSPORT, ck.KafkaError._ALL_BROKERS_DOWN)
    return bool(error.retriable()) or error.code() in down
