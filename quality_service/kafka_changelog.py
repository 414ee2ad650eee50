"""The changelog on Kafka: the decisions topic, read without a group."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import Any, Final

import confluent_kafka as ck

from quality_service.changelog import DecidedBatch
from quality_service.store import StoreError
from schemas.codec import Codec
from schemas.decisions import unpack

_POLL_S: Final = 1.0
_SILENCE_S: Final = 30.0
# Where the search ends and reading begins: some batches read in vain cost less than another seek.
_NEAR: Final = 16

_log = logging.getLogger("rdkafka")


class KafkaChangelog:
    """The decisions of raw partition p lie in partition p, in the order in which they were committed."""

    def __init__(self, bootstrap: str, topic: str, codec: Codec) -> None:
        self._bootstrap = bootstrap
        self._topic = topic
        self._codec = codec

    def read(self, topic_id: str, partition: int, after: int) -> Iterator[DecidedBatch]:
        """See `Changelog.read`. Raises `StoreError` where the broker does not answer or a record is none."""
        reader = _Reader(self._bootstrap, self._topic, partition)
        try:
            reader.seek(self._first_after(reader, topic_id, after))
            for message in reader.to_the_end():
                row = self._row(message)
                if row["topic_id"] == topic_id and row["end_offset"] > after:
                    yield DecidedBatch(row["begin_offset"], row["end_offset"], unpack(row["payload"]))
        finally:
            reader.close()

    def _first_after(self, reader: _Reader, topic_id: str, after: int) -> int:
        """An offset shortly before the first batch that ends above `after`, by halving.

        Batches of an earlier topic of the same name come before all of this one's.
        """
        low, high = reader.bounds()
        while after >= 0 and high - low > _NEAR:
            middle = (low + high) // 2
            reader.seek(middle)
            message = reader.next()
            if message is None:
                high = middle
                continue
            row = self._row(message)
            if row["topic_id"] == topic_id and row["end_offset"] > after:
                high = middle
            else:
                low = message.offset() + 1
        return low

    def _row(self, message: Any) -> dict[str, Any]:
        decoded = self._codec.decode([message.value()])
        if decoded.bad:
            raise StoreError(
                f"{self._topic}[{message.partition()}]@{message.offset()} is no batch of decisions: "
                f"{decoded.bad[0].reason}"
            )
        row: dict[str, Any] = decoded.frame.row(0, named=True)
        return row


class _Reader:
    """Committed records of one partition."""

    def __init__(self, bootstrap: str, topic: str, partition: int) -> None:
        self._client = ck.Consumer(
            {
                "bootstrap.servers": bootstrap,
                # Required by the client; nothing is committed and nothing joined.
                "group.id": f"{topic}.restore",
                "enable.auto.commit": False,
                "auto.offset.reset": "earliest",
                "isolation.level": "read_committed",
                "enable.partition.eof": True,
                "fetch.wait.max.ms": 10,
                "allow.auto.create.topics": False,
            },
            logger=_log,
        )
        self._at = ck.TopicPartition(topic, partition)

    def bounds(self) -> tuple[int, int]:
        try:
            low, high = self._client.get_watermark_offsets(self._at, timeout=_SILENCE_S)
        except ck.KafkaException as e:
            raise StoreError(f"cannot read the bounds of {self._at.topic}: {e}") from e
        return int(low), int(high)

    def seek(self, offset: int) -> None:
        # A new assignment and not a seek: it works before the first fetch too.
        self._client.assign([ck.TopicPartition(self._at.topic, self._at.partition, offset)])

    def next(self) -> Any:
        """The next record, or None at the end of the partition."""
        waited = 0.0
        while waited < _SILENCE_S:
            message = self._client.poll(_POLL_S)
            if message is None:
                waited += _POLL_S
                continue
            error = message.error()
            if error is None:
                return message
            if error.code() == ck.KafkaError._PARTITION_EOF:
                return None
            if not error.retriable():
                raise StoreError(f"cannot read {self._at.topic}[{self._at.partition}]: {error}")
        raise StoreError(f"{self._at.topic}[{self._at.partition}] gave no answer in {_SILENCE_S:.0f} s")

    def to_the_end(self) -> Iterator[Any]:
        while (message := self.next()) is not None:
            yield message

    def close(self) -> None:
        self._client.close()
