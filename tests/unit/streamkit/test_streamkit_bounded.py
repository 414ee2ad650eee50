"""A call to the client that never returns costs its transaction and its client, not the stage."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from streamkit.kafka import producers
from streamkit.kafka.bounded import NoAnswer, run_bounded
from streamkit.kafka.producers import KafkaTransactionalProducer
from streamkit.ports import TopicPartition, TransactionAborted


class Client:
    """Stands still in send_offsets until it is released."""

    def __init__(self) -> None:
        self.release = threading.Event()
        self.closed = threading.Event()

    def poll(self, _: float) -> None: ...

    def begin_transaction(self) -> None: ...

    def send_offsets_to_transaction(self, *_: Any) -> None:
        self.release.wait(30)

    def purge(self, **_: Any) -> None: ...

    def close(self) -> None:
        self.closed.set()


def test_a_result_and_an_exception_come_through() -> None:
    run_bounded(lambda: None, 5.0, too_late=pytest.fail)

    def fail() -> None:
        raise KeyError

    with pytest.raises(KeyError):
        run_bounded(fail, 5.0, too_late=pytest.fail)


def test_what_returns_too_late_is_cleaned_up_then() -> None:
    release, cleaned = threading.Event(), threading.Event()

    def stand_still() -> None:
        release.wait(30)

    with pytest.raises(NoAnswer):
        run_bounded(stand_still, 0.01, too_late=cleaned.set)
    assert not cleaned.is_set()
    release.set()
    assert cleaned.wait(5)


def test_a_client_that_does_not_return_is_replaced_and_its_batch_done_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(producers, "_OFFSETS_S", 0.01)
    producer, stuck, fresh = KafkaTransactionalProducer("nowhere:1", "slot"), Client(), Client()
    clients = [stuck, fresh]

    def replace() -> None:
        producer._client, producer._given_up = clients.pop(0), False

    monkeypatch.setattr(producer, "replace", replace)
    producer.begin()
    with pytest.raises(TransactionAborted, match="given up") as aborted:
        producer.send_offsets({TopicPartition("t", 0): 1}, object())
    assert aborted.value.retriable
    # As the runner does it: the abort, which must not touch the old client, then the batch again.
    producer.abort()
    assert producer._client is fresh
    producer.begin()
    fresh.release.set()
    producer.send_offsets({TopicPartition("t", 0): 1}, object())
    assert not stuck.closed.is_set()
    stuck.release.set()
    assert stuck.closed.wait(5)
