"""Producers on librdkafka: idempotent, and transactional."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import confluent_kafka as ck

from streamkit.kafka import config
from streamkit.kafka.bounded import NoAnswer, run_bounded
from streamkit.kafka.enqueue import enqueue
from streamkit.kafka.errors import error_of, translate
from streamkit.ports import (
    BrokerError,
    CommitOutcomeUnknown,
    Fenced,
    GroupMetadata,
    OutputBatch,
    TopicPartition,
    TransactionAborted,
)

log = logging.getLogger(__name__)
_client_log = logging.getLogger("rdkafka")

_POLL_S = 0.01
_RETRIES = 5
_RETRY_WAIT_S = 0.2
# rd_kafka_send_offsets_to_transaction knows no timeout while the group's coordinator is away, and after a
# broker was killed it may never return (librdkafka 2.16.0, issue 5456).
_OFFSETS_S = config.TRANSACTION_TIMEOUT_MS / 1000


class KafkaProducer:
    """Safe to call from several threads."""

    def __init__(self, bootstrap: str, client_id: str = "tillstream") -> None:
        self._client = ck.Producer(config.producer(bootstrap, client_id), logger=_client_log)

    def produce(self, batches: Sequence[OutputBatch], timeout_s: float) -> None:
        """On a timeout some records may still be delivered later: the caller's retry makes duplicates."""
        deadline = time.monotonic() + timeout_s
        # One entry per record. Appending is atomic, and any thread's poll may run the callback.
        outcomes: list[Any] = []

        def report(error: Any, _: Any) -> None:
            outcomes.append(error)

        for batch in batches:
            enqueue(self._client, batch, deadline, report)
        wanted = sum(map(len, batches))
        while len(outcomes) < wanted:
            if time.monotonic() >= deadline:
                missing = wanted - len(outcomes)
                raise BrokerError(f"{missing} of {wanted} records not acknowledged in time", retriable=True)
            self._client.poll(_POLL_S)
        failed = [error for error in outcomes if error is not None]
        if failed:
            raise translate(failed[0], f"{len(failed)} of {wanted} records not delivered")

    def close(self) -> None:
        self._client.flush(5)
        self._client.close()


class KafkaTransactionalProducer:
    """Not thread-safe: it belongs to the thread of its runner."""

    def __init__(self, bootstrap: str, transactional_id: str, timeout_s: float = 15.0) -> None:
        self._config = config.transactional(bootstrap, transactional_id)
        self._timeout_s = timeout_s
        self._client: Any = None
        self._open = False
        self._given_up = False
        self._delivery_errors: list[Any] = []

    def begin(self) -> None:
        if self._client is None:
            self.replace()
        self._client.poll(0)  # serves the log queue
        self._delivery_errors.clear()
        try:
            self._client.begin_transaction()
        except ck.KafkaException as e:
            raise translate(e, "begin transaction") from e
        self._open = True

    def produce(self, batches: Sequence[OutputBatch]) -> None:
        deadline = time.monotonic() + self._timeout_s
        for batch in batches:
            enqueue(self._client, batch, deadline, None)

    def send_offsets(self, offsets: Mapping[TopicPartition, int], group: GroupMetadata) -> None:
        positions = [ck.TopicPartition(tp.topic, tp.partition, offset) for tp, offset in offsets.items()]
        client, doing = self._client, "send offsets to transaction"

        def call() -> None:
            self._retrying(
                doing, lambda: client.send_offsets_to_transaction(positions, group, self._timeout_s)
            )

        try:
            run_bounded(call, _OFFSETS_S, too_late=lambda: _close_at_once(client))
        except NoAnswer as e:
            # The transaction has timed out by now. No other call to this client would return either.
            self._client, self._open, self._given_up = None, False, True
            raise TransactionAborted(f"{doing}: {e}; the client is given up", retriable=True) from e

    def commit(self) -> None:
        try:
            self._client.commit_transaction(self._timeout_s)
        except ck.KafkaException as e:
            translated = translate(e, "commit transaction")
            if isinstance(translated, Fenced):
                raise translated from e
            if isinstance(translated, TransactionAborted):
                raise TransactionAborted(f"{translated}{self._first_delivery_error()}", retriable=True) from e
            # Also where it was not a timeout: comparing the committed offsets is right in any case.
            raise CommitOutcomeUnknown(str(translated), retriable=True) from e
        self._open = False

    def abort(self) -> None:
        if self._given_up:
            self.replace()
        if not self._open:
            return
        try:
            self._retrying("abort transaction", lambda: self._client.abort_transaction(self._timeout_s))
        except Fenced:
            raise
        except BrokerError as e:
            # Initialising under the same transactional id ends the old transaction too.
            log.warning("abort failed, replacing the producer", extra={"error": str(e)})
            self.replace()
        self._open = False

    def replace(self) -> None:
        self._discard()
        client = ck.Producer({**self._config, "on_delivery": self._collect_error}, logger=_client_log)
        try:
            client.init_transactions(self._timeout_s)
        except ck.KafkaException as e:
            _close_at_once(client)
            raise translate(e, "initialise transactions") from e
        self._client, self._given_up = client, False

    def close(self) -> None:
        self._discard()

    def _discard(self) -> None:
        if self._client is not None:
            _close_at_once(self._client)
        self._client = None
        self._open = False

    def _collect_error(self, error: Any, _: Any) -> None:
        if error is not None:
            self._delivery_errors.append(error)

    def _first_delivery_error(self) -> str:
        self._client.poll(0)
        if not self._delivery_errors:
            return ""
        return f"; {len(self._delivery_errors)} records failed, the first: {self._delivery_errors[0]}"

    def _retrying(self, doing: str, call: Callable[[], None]) -> None:
        for attempt in range(_RETRIES):
            try:
                return call()
            except ck.KafkaException as e:
                if error_of(e).retriable() and attempt < _RETRIES - 1:
                    time.sleep(_RETRY_WAIT_S)
                    continue
                raise translate(e, doing) from e
        raise AssertionError("unreachable")


def _close_at_once(client: Any) -> None:
    """Without waiting for what is queued: its transaction is void."""
    try:
        client.purge(in_queue=True, in_flight=True, blocking=False)
        client.close()
    except (ck.KafkaException, RuntimeError) as e:
        log.warning("closing a producer failed", extra={"error": str(e)})
