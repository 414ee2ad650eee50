"""Reads whole topics without a group: from the beginning to the end, and then on as they grow."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from typing import Any, Final

import confluent_kafka as ck

from streamkit.kafka.batches import by_topic
from streamkit.kafka.errors import translate
from streamkit.ports import BrokerError, RecordBatch

_TIMEOUT_S: Final = 30.0
_log = logging.getLogger("rdkafka")


class KafkaFollower:
    """See `streamkit.ports.Follower`. Used by one thread."""

    def __init__(self, bootstrap: str, topics: Sequence[str], name: str) -> None:
        """`name` shows in the broker's log; nothing is joined and nothing committed."""
        self._topics = list(topics)
        self._client = ck.Consumer(
            {
                "bootstrap.servers": bootstrap,
                "group.id": f"{name}.follower",
                "client.id": name,
                "enable.auto.commit": False,
                "auto.offset.reset": "earliest",
                "isolation.level": "read_committed",
                "enable.partition.eof": True,
                "fetch.wait.max.ms": 250,
                "fetch.queue.backoff.ms": 10,
                "reconnect.backoff.max.ms": 1_000,
                "allow.auto.create.topics": False,
            },
            logger=_log,
        )
        self._waiting_for: set[tuple[str, int]] = set()
        self._heard_s = 0.0

    def open(self) -> None:
        try:
            known = self._client.list_topics(timeout=_TIMEOUT_S).topics
        except ck.KafkaException as error:
            raise translate(error, f"partitions of {', '.join(self._topics)}") from error
        if missing := [topic for topic in self._topics if topic not in known]:
            raise BrokerError(f"no topic {', '.join(missing)}", retriable=True)
        self._waiting_for = {(topic, p) for topic in self._topics for p in known[topic].partitions}
        self._heard_s = time.monotonic()
        self._client.assign([ck.TopicPartition(t, p, ck.OFFSET_BEGINNING) for t, p in self._waiting_for])

    def poll(self, max_records: int, timeout_s: float) -> list[RecordBatch]:
        messages = self._client.consume(1, timeout_s)
        if messages:
            messages += self._client.consume(max_records - 1, 0.0)
        records = [message for message in messages if not self._is_event(message)]
        if messages:
            self._heard_s = time.monotonic()
        elif self._waiting_for and time.monotonic() - self._heard_s > _TIMEOUT_S:
            raise BrokerError(
                f"{', '.join(self._topics)} gave no answer in {_TIMEOUT_S:.0f} s", retriable=True
            )
        return by_topic(records)

    def at_end(self) -> bool:
        return not self._waiting_for

    def close(self) -> None:
        self._client.close()

    def _is_event(self, message: Any) -> bool:
        """Takes note of a partition's end. Raises what neither is a record nor passes by itself."""
        error = message.error()
        if error is None:
            return False
        if error.code() == ck.KafkaError._PARTITION_EOF:
            self._waiting_for.discard((message.topic(), message.partition()))
            return True
        if error.retriable() or error.code() in (ck.KafkaError._TRANSPORT, ck.KafkaError._ALL_BROKERS_DOWN):
            return True
        raise translate(ck.KafkaException(error), f"read {', '.join(self._topics)}")
