"""The changelog on Kafka: a partition of the aggregates topic, read without a group."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from typing import Any, Final

import confluent_kafka as ck
import stamina

from gold_writer.aggregates.changelog import Chunk, StateError
from schemas.codec import Codec, Decoded
from schemas.registry import RegistryUnavailable
from streamkit.ports import BrokerError

_CHUNK: Final = 20_000
_POLL_S: Final = 0.05
_SILENCE_S: Final = 30.0

_log = logging.getLogger("rdkafka")


class KafkaChangelog:
    def __init__(self, bootstrap: str, topic: str, codec: Codec) -> None:
        self._bootstrap = bootstrap
        self._topic = topic
        self._codec = codec

    def read(self, partition: int, offset: int) -> Iterator[Chunk]:
        """See `Changelog.read`. Waits a minute for a registry that does not answer."""
        client = self._client()
        try:
            # Before it knows the partition's leader the client would wait half a second.
            client.list_topics(self._topic, timeout=_SILENCE_S)
            start = offset or ck.OFFSET_BEGINNING
            client.assign([ck.TopicPartition(self._topic, partition, start)])
            messages: list[Any] = []
            ended = False
            heard_s = time.monotonic()
            while not ended:
                for message in client.consume(_CHUNK - len(messages), _POLL_S):
                    heard_s = time.monotonic()
                    if message.error() is None:
                        messages.append(message)
                    else:
                        ended = self._is_end(message.error()) or ended
                if messages and (ended or len(messages) >= _CHUNK):
                    yield self._chunk(messages)
                    messages = []
                if time.monotonic() - heard_s > _SILENCE_S:
                    raise BrokerError(f"{self._topic}[{partition}] gave no answer in {_SILENCE_S:.0f} s")
        except ck.KafkaException as error:
            raise BrokerError(f"cannot read {self._topic}: {error}") from error
        finally:
            client.close()

    def _client(self) -> Any:
        return ck.Consumer(
            {
                "bootstrap.servers": self._bootstrap,
                # Required by the client; nothing is committed and nothing joined.
                "group.id": f"{self._topic}.restore",
                "enable.auto.commit": False,
                "auto.offset.reset": "earliest",
                "isolation.level": "read_committed",
                "enable.partition.eof": True,
                "fetch.wait.max.ms": 10,
                "queued.min.messages": 100_000,
                "allow.auto.create.topics": False,
            },
            logger=_log,
        )

    def _is_end(self, error: Any) -> bool:
        if error.code() == ck.KafkaError._PARTITION_EOF:
            return True
        if error.retriable() or error.code() in (ck.KafkaError._TRANSPORT, ck.KafkaError._ALL_BROKERS_DOWN):
            return False
        raise BrokerError(f"cannot read {self._topic}: {error}")

    def _chunk(self, messages: list[Any]) -> Chunk:
        decoded = self._decode([message.value() for message in messages])
        keys = [message.key() for message in messages]
        if decoded.bad or None in keys:
            bad = messages[decoded.bad[0].position if decoded.bad else keys.index(None)]
            raise StateError(
                f"{self._topic}[{bad.partition()}]@{bad.offset()} is no aggregate: "
                f"{decoded.bad[0].reason if decoded.bad else 'it has no key'}"
            )
        return Chunk(keys, decoded.frame, messages[-1].offset() + 1)

    @stamina.retry(on=RegistryUnavailable, attempts=None, timeout=60.0, wait_max=2.0)
    def _decode(self, values: list[bytes | None]) -> Decoded:
        return self._codec.decode(values)
