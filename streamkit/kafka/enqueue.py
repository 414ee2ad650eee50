"""Handing a batch to librdkafka's queue, in order."""

from __future__ import annotations

import time
from collections.abc import Callable
from itertools import repeat
from typing import Any

import confluent_kafka as ck

from streamkit.kafka.errors import translate
from streamkit.ports import BrokerError, OutputBatch

_ANY_PARTITION = -1
_ROOM_WAIT_S = 0.05

Report = Callable[[Any, Any], None]


def enqueue(client: Any, batch: OutputBatch, deadline: float, report: Report | None) -> None:
    """`deadline` is of the monotonic clock; `report` is called with each record's outcome from a poll.

    A call per record: `produce_batch` (2.16) knows neither headers nor a partition per record, and is slower
    (1.0 microsecond against 0.7). Positional arguments save a quarter of the time of keywords.
    """
    topic, produce = batch.topic, client.produce
    partitions = repeat(_ANY_PARTITION, len(batch)) if batch.partition is None else batch.partition
    all_headers = repeat(None, len(batch)) if batch.headers is None else batch.headers
    for value, key, partition, given in zip(batch.value, batch.key, partitions, all_headers, strict=True):
        # The client takes nothing but a list.
        headers = given if given is None or type(given) is list else list(given)
        while True:
            try:
                # topic, value, key, partition, callback, on_delivery, timestamp, headers
                produce(topic, value, key, partition, report, None, 0, headers)
                break
            except BufferError as e:
                if time.monotonic() >= deadline:
                    raise BrokerError("the producer's queue stays full", retriable=True) from e
                client.poll(_ROOM_WAIT_S)
            except ck.KafkaException as e:
                raise translate(e, f"produce to {topic}") from e
