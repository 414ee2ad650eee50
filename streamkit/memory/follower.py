"""The follower on the broker in memory."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from streamkit.memory.broker import MemoryBroker
from streamkit.memory.log import Record
from streamkit.ports import RecordBatch, TopicPartition


class MemoryFollower:
    """See `streamkit.ports.Follower`. Never waits."""

    def __init__(self, broker: MemoryBroker, topics: Sequence[str]) -> None:
        self._broker = broker
        self._topics = list(topics)
        self._position: dict[TopicPartition, int] = {}
        self._ended: set[TopicPartition] = set()

    def open(self) -> None:
        self._broker.check_up()
        self._ended.clear()
        self._position = {tp: 0 for topic in self._topics for tp in self._broker.partitions(topic)}

    def poll(self, max_records: int, timeout_s: float) -> list[RecordBatch]:
        self._broker.check_up()
        batches = []
        with self._broker.changed:
            self._broker.expire_transactions()
            for topic in self._topics:
                found: list[tuple[int, Record]] = []
                for tp in self._broker.partitions(topic):
                    records = self._broker.log(tp).read(self._position[tp], max_records - len(found))
                    found += [(tp.partition, record) for record in records]
                    if records:
                        self._position[tp] = records[-1].offset + 1
                    elif len(found) < max_records:
                        self._ended.add(tp)
                if found:
                    batches.append(_batch(topic, found))
        return batches

    def at_end(self) -> bool:
        return self._ended >= self._position.keys()

    def close(self) -> None:
        """Nothing is held."""


def _batch(topic: str, found: Sequence[tuple[int, Record]]) -> RecordBatch:
    return RecordBatch(
        topic=topic,
        partition=np.array([partition for partition, _ in found], np.int32),
        offset=np.array([record.offset for _, record in found], np.int64),
        timestamp_ms=np.array([record.timestamp_ms for _, record in found], np.int64),
        key=[record.key for _, record in found],
        value=[record.value for _, record in found],
        headers=[record.headers for _, record in found],
    )
