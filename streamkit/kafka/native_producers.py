"""Producers on librdkafka's C interface: idempotent, and transactional. Records go as columns."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from ctypes import byref, c_int
from typing import Any

import confluent_kafka as ck
import numpy as np

from native.library import Column, integers
from streamkit.columns import BinaryColumn
from streamkit.kafka import config
from streamkit.kafka import librdkafka as rdkafka
from streamkit.kafka.bounded import NoAnswer, run_bounded
from streamkit.kafka.errors import translate
from streamkit.kafka.librdkafka import Client, NativeGroupMetadata, partition_list
from streamkit.packed_headers import PackedHeaders
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

_POLL_MS = 10
_RETRIES = 5
_RETRY_WAIT_S = 0.2
_FLUSH_S = 5.0
# See `streamkit.kafka.producers`: the call may never return after a broker was killed.
_OFFSETS_S = config.TRANSACTION_TIMEOUT_MS / 1000


class _Queue:
    """A producing client and its topics."""

    def __init__(self, settings: Mapping[str, Any]) -> None:
        self.client = Client(rdkafka.PRODUCER, settings)
        self._topics: dict[str, Any] = {}
        self._lock = threading.Lock()

    def put(self, batch: OutputBatch, timeout_s: float, report: Any) -> None:
        """Hand a batch over, in order. `report`: the native library's, or None for the transaction's."""
        value, key = BinaryColumn.of(batch.value), BinaryColumn.of(batch.key)
        headers = None if batch.headers is None else PackedHeaders.of(batch.headers)
        partition = None if batch.partition is None else np.ascontiguousarray(batch.partition, dtype=np.int32)
        lengths = {len(value), len(key), len(value if headers is None else headers)}
        if len(lengths | ({len(partition)} if partition is not None else set())) != 1:
            raise ValueError(f"the columns for {batch.topic} have different lengths")
        columns = [_column(value), _column(key)]
        code = c_int()
        packed = None if headers is None else _column(headers.column)
        client = self.client
        done = client.native.ts_produce(
            client.handle,
            self._topic(batch.topic),
            0,
            len(batch),
            byref(columns[0][0]),
            byref(columns[1][0]),
            None if packed is None else byref(packed[0]),
            None if headers is None or headers.rows is None else headers.rows.ctypes.data,
            None if partition is None else partition.ctypes.data,
            report,
            int(timeout_s * 1_000_000),
            byref(code),
        )
        if done == len(batch):
            return
        if code.value == ck.KafkaError._QUEUE_FULL:
            raise BrokerError("the producer's queue stays full", retriable=True)
        raise translate(ck.KafkaError(code.value), f"produce to {batch.topic}")

    def _topic(self, name: str) -> Any:
        with self._lock:
            if name not in self._topics:
                made = self.client.rd.rd_kafka_topic_new(self.client.handle, name.encode(), None)
                if not made:
                    code = self.client.rd.rd_kafka_last_error()
                    raise translate(ck.KafkaError(code), f"produce to {name}")
                self._topics[name] = made
            return self._topics[name]

    def close(self) -> None:
        """Without waiting for what is queued."""
        rd, handle = self.client.rd, self.client.handle
        rd.rd_kafka_purge(handle, rdkafka.PURGE_ALL)
        rd.rd_kafka_poll(handle, 0)
        for topic in self._topics.values():
            rd.rd_kafka_topic_destroy(topic)
        self.client.destroy()


def _column(given: BinaryColumn) -> tuple[Column, object]:
    """The C view of a column, and what must stay alive beside it."""
    offsets, data, valid, bit = given.parts()
    at = None if valid is None else valid.ctypes.data
    return Column(offsets.ctypes.data, data.ctypes.data, at, bit), (offsets, data, valid, given)


class NativeProducer:
    """Safe to call from several threads."""

    def __init__(self, bootstrap: str, client_id: str = "tillstream") -> None:
        self._queue: _Queue | None = _Queue(config.producer(bootstrap, client_id))

    def produce(self, batches: Sequence[OutputBatch], timeout_s: float) -> None:
        """On a timeout some records may still be delivered later: the caller's retry makes duplicates."""
        queue = self._queue
        if queue is None:
            raise BrokerError("the producer is closed")
        deadline = time.monotonic() + timeout_s
        native = queue.client.native
        report = native.ts_report_new()
        if not report:
            raise MemoryError
        wanted = sum(map(len, batches))
        # After an exception, records of this call may still be reported: the report is then never freed.
        for batch in batches:
            queue.put(batch, deadline - time.monotonic(), report)
        failed, first = self._wait(queue, report, wanted, deadline)
        native.ts_report_free(report)
        if failed:
            raise translate(ck.KafkaError(first), f"{failed} of {wanted} records not delivered")

    def _wait(self, queue: _Queue, report: Any, wanted: int, deadline: float) -> tuple[int, int]:
        done, failed = integers(2)
        first = c_int()
        while True:
            queue.client.native.ts_report(report, byref(done), byref(failed), byref(first))
            if done.value >= wanted:
                return failed.value, first.value
            if time.monotonic() >= deadline:
                missing = wanted - done.value
                raise BrokerError(f"{missing} of {wanted} records not acknowledged in time", retriable=True)
            queue.client.rd.rd_kafka_poll(queue.client.handle, _POLL_MS)
            queue.client.log_notes()

    def close(self) -> None:
        queue, self._queue = self._queue, None
        if queue is not None:
            queue.client.rd.rd_kafka_flush(queue.client.handle, int(_FLUSH_S * 1000))
            queue.close()


class NativeTransactionalProducer:
    """Not thread-safe: it belongs to the thread of its runner. Goes with a `NativeConsumer`."""

    def __init__(self, bootstrap: str, transactional_id: str, timeout_s: float = 15.0) -> None:
        self._config = config.transactional(bootstrap, transactional_id)
        self._timeout_s = timeout_s
        self._timeout_ms = int(timeout_s * 1000)
        self._queue: _Queue | None = None
        self._open = False
        self._given_up = False

    def begin(self) -> None:
        if self._queue is None:
            self.replace()
        client = self._client()
        client.rd.rd_kafka_poll(client.handle, 0)
        client.log_notes()
        client.native.ts_report_clear(client.native.ts_transaction_report(client.state))
        client.check(client.rd.rd_kafka_begin_transaction(client.handle), "begin transaction")
        self._open = True

    def produce(self, batches: Sequence[OutputBatch]) -> None:
        deadline = time.monotonic() + self._timeout_s
        for batch in batches:
            self._opened().put(batch, deadline - time.monotonic(), None)

    def send_offsets(self, offsets: Mapping[TopicPartition, int], group: GroupMetadata) -> None:
        if not isinstance(group, NativeGroupMetadata):
            raise TypeError("a native producer commits the offsets of a native consumer")
        queue, doing = self._opened(), "send offsets to transaction"
        client = queue.client

        def call() -> None:
            with partition_list(offsets) as positions:
                send = client.rd.rd_kafka_send_offsets_to_transaction
                _retrying(
                    client,
                    doing,
                    lambda: send(client.handle, positions, group.pointer, self._timeout_ms),
                )

        try:
            run_bounded(call, _OFFSETS_S, too_late=queue.close)
        except NoAnswer as e:
            # The transaction has timed out by now. No other call to this client would return either.
            self._queue, self._open, self._given_up = None, False, True
            raise TransactionAborted(f"{doing}: {e}; the client is given up", retriable=True) from e

    def commit(self) -> None:
        client = self._client()
        try:
            error = client.rd.rd_kafka_commit_transaction(client.handle, self._timeout_ms)
            client.check(error, "commit transaction")
        except Fenced:
            raise
        except TransactionAborted as error:
            raise TransactionAborted(f"{error}{self._delivery_errors()}", retriable=True) from error
        except BrokerError as error:
            # Also where it was not a timeout: comparing the committed offsets is right in any case.
            raise CommitOutcomeUnknown(str(error), retriable=True) from error
        self._open = False

    def abort(self) -> None:
        if self._given_up:
            self.replace()
        if not self._open:
            return
        client = self._client()
        try:
            _retrying(
                client,
                "abort transaction",
                lambda: client.rd.rd_kafka_abort_transaction(client.handle, self._timeout_ms),
            )
        except Fenced:
            raise
        except BrokerError as e:
            # Initialising under the same transactional id ends the old transaction too.
            log.warning("abort failed, replacing the producer", extra={"error": str(e)})
            self.replace()
        self._open = False

    def replace(self) -> None:
        self._discard()
        queue = _Queue(self._config)
        client = queue.client
        try:
            error = client.rd.rd_kafka_init_transactions(client.handle, self._timeout_ms)
            client.check(error, "initialise transactions")
        except BrokerError:
            queue.close()
            raise
        self._queue, self._given_up = queue, False

    def close(self) -> None:
        self._discard()

    def _discard(self) -> None:
        queue, self._queue = self._queue, None
        self._open = False
        if queue is not None:
            queue.close()

    def _opened(self) -> _Queue:
        if self._queue is None:
            raise BrokerError("no transaction is open")
        return self._queue

    def _client(self) -> Client:
        return self._opened().client

    def _delivery_errors(self) -> str:
        client = self._client()
        client.rd.rd_kafka_poll(client.handle, 0)
        done, failed = integers(2)
        first = c_int()
        client.native.ts_report(
            client.native.ts_transaction_report(client.state), byref(done), byref(failed), byref(first)
        )
        if not failed.value:
            return ""
        return f"; {failed.value} records failed, the first: {ck.KafkaError(first.value)}"


def _retrying(client: Client, doing: str, call: Callable[[], Any]) -> None:
    for attempt in range(_RETRIES):
        error = client.taken(call())
        if error is None:
            return
        if error.retriable() and attempt < _RETRIES - 1:
            time.sleep(_RETRY_WAIT_S)
            continue
        raise translate(error, doing)
    raise AssertionError("unreachable")
