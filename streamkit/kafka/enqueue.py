"""Handing a batch to librdkafka's queue, in order."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import confluent_kafka as ck

from streamkit.kafka.errors import error_of, translate
from streamkit.ports import BrokerError, Headers, OutputBatch, TransactionAborted

ANY_PARTITION = -1
_ROOM_WAIT_S = 0.05

Report = Callable[[Any, Any], None]


def enqueue(client: Any, batch: OutputBatch, deadline: float, report: Report | None) -> None:
    """`deadline` is of the monotonic clock; `report` is called with each record's outcome from a poll."""
    partitions = batch.partition if batch.partition is not None else [ANY_PARTITION] * len(batch)
    if batch.headers is None:
        _without_headers(client, batch, partitions, deadline, report)
        return
    topic, produce = batch.topic, client.produce
    for value, key, partition, headers in zip(batch.value, batch.key, partitions, batch.headers, strict=True):
        try:
            produce(topic, value, key, partition, on_delivery=report, headers=headers)
        except BufferError:
            _one_more_try(client, batch.topic, (value, key, partition, headers), deadline, report)
        except ck.KafkaException as e:
            raise translate(e, f"produce to {topic}") from e


def _without_headers(
    client: Any, batch: OutputBatch, partitions: Any, deadline: float, report: Report | None
) -> None:
    """One call for all: a third of the time of a call per record."""
    messages: list[dict[str, Any]] = [
        {"value": value, "key": key, "partition": partition}
        for value, key, partition in zip(batch.value, batch.key, partitions, strict=True)
    ]
    while messages:
        try:
            client.produce_batch(batch.topic, messages, on_delivery=report)
        except BufferError:
            pass
        except ck.KafkaException as e:
            raise translate(e, f"produce to {batch.topic}") from e
        messages = _refused(batch.topic, messages)
        if messages:
            _wait_for_room(client, deadline)


def _refused(topic: str, messages: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The tail that found the queue full, ready to be tried again."""
    failed = [i for i, message in enumerate(messages) if "_error" in message]
    for i in failed:
        error = messages[i].pop("_error")
        if error_of(error).code() != ck.KafkaError._QUEUE_FULL:
            raise translate(error, f"produce to {topic}")
    if failed and failed[0] != len(messages) - len(failed):
        # Room appeared in mid-call: a repeat would put the refused ones behind their successors.
        raise TransactionAborted("the queue was full in the middle of a batch", retriable=True)
    return messages[len(messages) - len(failed) :]


def _one_more_try(
    client: Any,
    topic: str,
    record: tuple[bytes | None, bytes | None, int, Headers],
    deadline: float,
    report: Report | None,
) -> None:
    value, key, partition, headers = record
    while True:
        _wait_for_room(client, deadline)
        try:
            client.produce(topic, value, key, partition, on_delivery=report, headers=headers)
            return
        except BufferError:
            continue
        except ck.KafkaException as e:
            raise translate(e, f"produce to {topic}") from e


def _wait_for_room(client: Any, deadline: float) -> None:
    if time.monotonic() >= deadline:
        raise BrokerError("the producer's queue stays full", retriable=True)
    client.poll(_ROOM_WAIT_S)
