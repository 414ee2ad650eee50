"""From the native library's held records to batches of columns."""

from __future__ import annotations

from ctypes import byref

import numpy as np
from numpy.typing import NDArray

from native.library import Batch, integers
from streamkit.columns import BinaryColumn, take
from streamkit.kafka.librdkafka import Client
from streamkit.packed_headers import PackedHeaders
from streamkit.ports import RecordBatch


def take_batches(client: Client, max_records: int, max_bytes: int) -> list[RecordBatch]:
    """The first held records within both bounds (at least one), a batch per topic in the order of their first
    records."""
    values, keys, headers = integers(3)
    native, state = client.native, client.state
    count = native.ts_measure(state, max_records, max_bytes, byref(values), byref(keys), byref(headers))
    if count == 0:
        return []
    topic, partition = np.empty(count, np.int32), np.empty(count, np.int32)
    offset, timestamp = np.empty(count, np.int64), np.empty(count, np.int64)
    value, key, packed = _Bytes(count, values.value), _Bytes(count, keys.value), _Bytes(count, headers.value)
    into = Batch(
        topic.ctypes.data,
        partition.ctypes.data,
        offset.ctypes.data,
        timestamp.ctypes.data,
        value.offsets.ctypes.data,
        value.data.ctypes.data,
        value.valid.ctypes.data,
        key.offsets.ctypes.data,
        key.data.ctypes.data,
        key.valid.ctypes.data,
        packed.offsets.ctypes.data,
        packed.data.ctypes.data,
        0,
        0,
    )
    native.ts_fill(state, count, byref(into))

    def name(index: int) -> str:
        found: str = native.ts_topic_name(state, index).decode()
        return found

    whole = RecordBatch(
        topic=name(int(topic[0])),
        partition=partition,
        offset=offset,
        timestamp_ms=timestamp,
        key=key.column(into.key_nulls),
        value=value.column(into.value_nulls),
        headers=PackedHeaders(packed.column(0)),
    )
    if (topic == topic[0]).all():
        return [whole]
    indices, first = np.unique(topic, return_index=True)
    order = np.argsort(first, kind="stable")
    return [_part(whole, name(int(i)), np.flatnonzero(topic == i)) for i in indices[order]]


class _Bytes:
    """The buffers of a column that the native library fills."""

    def __init__(self, count: int, size: int) -> None:
        self.offsets = np.empty(count + 1, np.int64)
        self.data = np.empty(max(size, 1), np.uint8)
        self.valid = np.zeros((count + 7) // 8, np.uint8)

    def column(self, nulls: int) -> BinaryColumn:
        return BinaryColumn.of_buffers(self.offsets, self.data, self.valid, nulls)


def _part(whole: RecordBatch, topic: str, rows: NDArray[np.int64]) -> RecordBatch:
    return RecordBatch(
        topic=topic,
        partition=whole.partition[rows],
        offset=whole.offset[rows],
        timestamp_ms=whole.timestamp_ms[rows],
        key=take(whole.key, rows),
        value=take(whole.value, rows),
        headers=take(whole.headers, rows),
    )
