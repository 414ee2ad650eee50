"""From librdkafka's messages to columns."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from itertools import accumulate
from typing import Any

import confluent_kafka as ck
import numpy as np

from streamkit.ports import Headers, RecordBatch

log = logging.getLogger(__name__)

_Message = ck.Message
_NO_HEADERS: Headers = ()


def split_at_bounds(messages: list[Any], max_records: int, max_bytes: int) -> tuple[list[Any], list[Any]]:
    """The head within both bounds (at least one message) and the rest."""
    count = min(len(messages), max_records)
    sizes = list(accumulate(map(len, messages[:count])))  # the length of a message is that of its value
    if sizes and sizes[-1] > max_bytes:
        count = max(1, int(np.searchsorted(sizes, max_bytes, side="right")))
    return messages[:count], messages[count:]


def by_topic(messages: Sequence[Any]) -> list[RecordBatch]:
    """One batch per topic, in the order of the first record of each."""
    topics = list(map(_Message.topic, messages))
    if len(set(topics)) <= 1:
        return [_batch(topics[0], messages)] if messages else []
    groups: dict[str, list[Any]] = {}
    for topic, message in zip(topics, messages, strict=True):
        groups.setdefault(topic, []).append(message)
    return [_batch(topic, group) for topic, group in groups.items()]


def _batch(topic: str, messages: Sequence[Any]) -> RecordBatch:
    # map over unbound methods: these loops run in C, and they are the only ones per record.
    return RecordBatch(
        topic=topic,
        partition=np.fromiter(map(_Message.partition, messages), np.int32, len(messages)),
        offset=np.fromiter(map(_Message.offset, messages), np.int64, len(messages)),
        timestamp_ms=np.fromiter((t for _, t in map(_Message.timestamp, messages)), np.int64, len(messages)),
        key=list(map(_Message.key, messages)),
        value=list(map(_Message.value, messages)),
        headers=_headers(messages),
    )


def _headers(messages: Sequence[Any]) -> list[Headers]:
    """No headers for a record where one has a name that is not UTF-8: the client (2.16) cannot read any of
    them then, and a producer from outside must not stop the stage with such a record."""
    columns: list[Headers] = []
    # Through map, and not by a method call: the client returns a broken list with an exception pending, and
    # the interpreter's fast path for method calls notices that only some instructions later.
    each = map(_Message.headers, messages)
    while len(columns) < len(messages):
        try:
            for headers in each:
                columns.append(headers or _NO_HEADERS)
        except (SystemError, UnicodeDecodeError):
            # Never ask this message again: the second answer is the broken list, with no exception.
            bad = messages[len(columns)]
            log.warning(
                "headers unreadable, taken as none",
                extra={"topic": bad.topic(), "partition": bad.partition(), "offset": bad.offset()},
            )
            columns.append(_NO_HEADERS)
    return columns
