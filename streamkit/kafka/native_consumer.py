"""The consumer on librdkafka's C interface: records come as columns.

It does what `streamkit.kafka.consumer` does, for a third of the time; both pass the same conformance suite.
"""

from __future__ import annotations

import ctypes
import logging
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from ctypes import byref, c_int, c_int64, c_void_p
from typing import Any

import confluent_kafka as ck

from native.library import Incident
from streamkit.kafka import config
from streamkit.kafka import librdkafka as rdkafka
from streamkit.kafka.errors import translate
from streamkit.kafka.librdkafka import Client, NativeGroupMetadata, elements, partition_list
from streamkit.kafka.native_batches import take_batches
from streamkit.ports import BrokerError, GroupMetadata, RecordBatch, TopicPartition

log = logging.getLogger(__name__)

_COMMITTED_TIMEOUT_S = 30.0
_SEEK_TIMEOUT_S = 30.0
_WATERMARK_TIMEOUT_S = 2.0
_CLOSE_SLICE_S = 0.05
_CLOSE_TIMEOUT_S = 30.0

OnAssign = Callable[[Sequence[TopicPartition]], Mapping[TopicPartition, int] | None]
OnRemove = Callable[[Sequence[TopicPartition]], None]


class NativeConsumer:
    """Not thread-safe: it belongs to the thread of its runner.

    librdkafka's callbacks end in the native library, which keeps what they said; `poll` asks for it and then
    calls the runner's. Records beyond a poll's bounds are held there and dropped as in `KafkaConsumer`.
    """

    def __init__(self, bootstrap: str, group: str, instance_id: str | None = None) -> None:
        """`instance_id`: as for `KafkaConsumer`."""
        self._client = Client(rdkafka.CONSUMER, config.consumer(bootstrap, group, instance_id))
        self._rd, self._native = self._client.rd, self._client.native
        self._rd.rd_kafka_poll_set_consumer(self._client.handle)
        self._queue = self._rd.rd_kafka_queue_get_consumer(self._client.handle)
        self._subscribed = False
        self._closed = False
        self._untold: set[TopicPartition] = set()
        self._position: dict[TopicPartition, int] = {}
        self._end: dict[TopicPartition, int] = {}
        self._paused: set[TopicPartition] = set()
        self._on_assign: OnAssign = lambda _: None
        self._on_revoke: OnRemove = lambda _: None
        self._on_lost: OnRemove = lambda _: None

    # Group membership -------------------------------------------------------------------------------

    def subscribe(
        self, topics: Sequence[str], *, on_assign: OnAssign, on_revoke: OnRemove, on_lost: OnRemove
    ) -> None:
        self._on_assign, self._on_revoke, self._on_lost = on_assign, on_revoke, on_lost
        with partition_list([TopicPartition(topic, -1) for topic in topics]) as wanted:
            self._client.check_code(self._rd.rd_kafka_subscribe(self._client.handle, wanted), "subscribe")
        self._subscribed = True

    def assignment(self) -> list[TopicPartition]:
        found = ctypes.POINTER(rdkafka._List)()
        self._client.check_code(
            self._rd.rd_kafka_assignment(self._client.handle, byref(found)), "ask for the assignment"
        )
        try:
            return [tp for tp, _, _ in elements(found)]
        finally:
            self._rd.rd_kafka_topic_partition_list_destroy(found)

    def group_metadata(self) -> GroupMetadata:
        return NativeGroupMetadata(self._client)

    def close(self) -> None:
        """Leave the group; the partitions are revoked on the way."""
        if self._closed:
            return
        self._closed = True
        try:
            self._leave()
        finally:
            self._native.ts_forget(self._client.state)
            self._rd.rd_kafka_queue_destroy(self._queue)
            self._client.destroy()

    def _leave(self) -> None:
        handle, deadline = self._client.handle, time.monotonic() + _CLOSE_TIMEOUT_S
        self._client.check(self._rd.rd_kafka_consumer_close_queue(handle, self._queue), "close")
        while not self._rd.rd_kafka_consumer_closed(handle) and time.monotonic() < deadline:
            self._gather(1, 1, _CLOSE_SLICE_S, 0.0)
            self._native.ts_forget(self._client.state)
            self._serve_rebalances()
            while self._next_incident() is not None:
                pass
        if not self._rd.rd_kafka_consumer_closed(handle):
            log.warning("left the group without its answer", extra={"waited_s": _CLOSE_TIMEOUT_S})

    def _serve_rebalances(self) -> bool:
        """Whether there was one."""
        served = False
        code, partitions = c_int(), c_void_p()
        while self._native.ts_next_rebalance(self._client.state, byref(code), byref(partitions)):
            served = True
            try:
                self._rebalance(code.value, partitions)
            finally:
                if partitions.value:
                    self._rd.rd_kafka_topic_partition_list_destroy(partitions)
        return served

    def _rebalance(self, code: int, raw: c_void_p) -> None:
        if code == rdkafka.ASSIGN:
            self._assigned([tp for tp, _, _ in elements(raw)], raw)
        elif code == rdkafka.REVOKE:
            self._removed([tp for tp, _, _ in elements(raw)], raw)
        else:
            log.error("rebalance failed", extra={"error": str(ck.KafkaError(code))})

    def _assigned(self, partitions: list[TopicPartition], raw: c_void_p) -> None:
        if self._closed:
            # On the way out nobody is to restore their state; they are revoked next.
            self._untold |= set(partitions)
            self._drop_error(self._rd.rd_kafka_incremental_assign(self._client.handle, raw))
            return
        try:
            starts = dict(self._on_assign(partitions) or {})
            unknown = [tp for tp in partitions if tp not in starts]
            starts |= {tp: o for tp, o in self.committed(unknown).items() if o is not None}
        except BaseException:
            # The group waits for an answer even where this process is about to stop.
            self._drop_error(self._rd.rd_kafka_incremental_assign(self._client.handle, raw))
            raise
        self._position |= starts
        with partition_list({tp: starts.get(tp, rdkafka.OFFSET_BEGINNING) for tp in partitions}) as wanted:
            self._client.check(self._rd.rd_kafka_incremental_assign(self._client.handle, wanted), "assign")
            # librdkafka remembers a pause from before the partition was last revoked.
            self._rd.rd_kafka_resume_partitions(self._client.handle, wanted)

    def _removed(self, partitions: list[TopicPartition], raw: c_void_p) -> None:
        lost = bool(self._rd.rd_kafka_assignment_lost(self._client.handle))
        # Without this, a batch gathered before the revocation would be committed under the new generation.
        self._drop(partitions)
        for tp in partitions:
            self._position.pop(tp, None)
            self._end.pop(tp, None)
            self._paused.discard(tp)
        told = [tp for tp in partitions if tp not in self._untold]
        self._untold -= set(partitions)
        try:
            if told or not partitions:
                (self._on_lost if lost else self._on_revoke)(told)
        finally:
            error = self._rd.rd_kafka_incremental_unassign(self._client.handle, raw)
        self._client.check(error, "give partitions back")

    def _drop_error(self, error: Any) -> None:
        if error:
            self._rd.rd_kafka_error_destroy(error)

    # Reading ----------------------------------------------------------------------------------------

    def poll(self, max_records: int, max_bytes: int, timeout_s: float, linger_s: float) -> list[RecordBatch]:
        self._client.log_notes()
        deadline = time.monotonic() + timeout_s
        while True:
            held = self._gather(max_records, max_bytes, max(deadline - time.monotonic(), 0.0), linger_s)
            # What happened meanwhile may drop from what was gathered.
            happened = self._serve_rebalances() | self._serve_incidents()
            if not happened or (held == 0 and time.monotonic() >= deadline):
                break
        batches = take_batches(self._client, max_records, max_bytes)
        for batch in batches:
            self._position |= batch.next_offsets()
        return batches

    def _gather(self, max_records: int, max_bytes: int, timeout_s: float, linger_s: float) -> int:
        held: int = self._native.ts_gather(
            self._client.state,
            self._queue,
            max_records,
            max_bytes,
            int(timeout_s * 1_000_000),
            int(linger_s * 1_000_000),
        )
        return held

    def _next_incident(self) -> Incident | None:
        met = Incident()
        return met if self._native.ts_next_incident(self._client.state, byref(met)) else None

    def _serve_incidents(self) -> bool:
        """Note ends of partitions, log what passes by itself, raise what does not. Whether there was any."""
        served = False
        while (met := self._next_incident()) is not None:
            served = True
            if met.code == ck.KafkaError._PARTITION_EOF:
                topic = self._native.ts_topic_name(self._client.state, met.topic).decode()
                self._end[TopicPartition(topic, met.partition)] = met.offset
                continue
            fatal = met.code == ck.KafkaError._FATAL
            translated = translate(
                ck.KafkaError(met.code, met.text.decode(errors="replace") or None, fatal), "poll"
            )
            if type(translated) is not BrokerError or fatal:
                raise translated
            log.warning("consumer error", extra={"error": str(translated)})
        return served

    # Positions --------------------------------------------------------------------------------------

    def pause(self, partitions: Sequence[TopicPartition]) -> None:
        self._drop(partitions)
        with partition_list(partitions) as wanted:
            self._client.check_code(
                self._rd.rd_kafka_pause_partitions(self._client.handle, wanted), "pause partitions"
            )
        self._paused |= set(partitions)

    def resume(self, partitions: Sequence[TopicPartition]) -> None:
        with partition_list(partitions) as wanted:
            self._client.check_code(
                self._rd.rd_kafka_resume_partitions(self._client.handle, wanted), "resume partitions"
            )
        self._paused -= set(partitions)
        # librdkafka goes on after the last record it handed over; those that we dropped lie before that.
        self.seek({tp: self._position[tp] for tp in partitions if tp in self._position})

    def seek(self, offsets: Mapping[TopicPartition, int]) -> None:
        self._drop(offsets)
        assigned = set(self.assignment())
        wanted = {tp: offset for tp, offset in offsets.items() if tp in assigned}
        if not wanted:
            return
        with partition_list(wanted) as moved:
            error = self._rd.rd_kafka_seek_partitions(self._client.handle, moved, int(_SEEK_TIMEOUT_S * 1000))
            self._client.check(error, "seek")
            for tp, _, code in elements(moved):
                self._client.check_code(code, f"seek {tp.topic}[{tp.partition}]")
        for tp, offset in wanted.items():
            self._position[tp] = offset
            self._end.pop(tp, None)

    def committed(self, partitions: Sequence[TopicPartition]) -> dict[TopicPartition, int | None]:
        """Waits for a transaction that is open on these offsets (KIP-447): its outcome is included."""
        if not partitions:
            return {}
        with partition_list(partitions) as asked:
            code = self._rd.rd_kafka_committed(self._client.handle, asked, int(_COMMITTED_TIMEOUT_S * 1000))
            self._client.check_code(code, "fetch committed offsets")
            answers = elements(asked)
        for tp, _, code in answers:
            self._client.check_code(code, f"fetch committed offset of {tp.topic}[{tp.partition}]")
        return {tp: offset if offset >= 0 else None for tp, offset, _ in answers}

    def commit(self, offsets: Mapping[TopicPartition, int]) -> None:
        if not offsets:
            return
        with partition_list(offsets) as wanted:
            code = self._rd.rd_kafka_commit(self._client.handle, wanted, 0)
            self._client.check_code(code, "commit offsets")
            for tp, _, code in elements(wanted):
                self._client.check_code(code, f"commit offset of {tp.topic}[{tp.partition}]")

    def lag(self) -> dict[TopicPartition, int]:
        return {tp: self._lag_of(tp) for tp in self.assignment()}

    def _lag_of(self, tp: TopicPartition) -> int:
        low, high = self._watermarks(tp)
        position = self._position.get(tp, low)
        held = self._native.ts_holds(self._client.state, tp.topic.encode(), tp.partition)
        reached_end = self._end.get(tp, -1) >= high and not held
        return 0 if reached_end else max(high - position, 0)

    def _watermarks(self, tp: TopicPartition) -> tuple[int, int]:
        low, high = c_int64(), c_int64()
        where = (self._client.handle, tp.topic.encode(), tp.partition, byref(low), byref(high))
        self._rd.rd_kafka_get_watermark_offsets(*where)
        if high.value < 0 or tp in self._paused:
            # Nothing fetched yet, or nothing fetched any more: the cache does not know.
            code = self._rd.rd_kafka_query_watermark_offsets(*where, int(_WATERMARK_TIMEOUT_S * 1000))
            self._client.check_code(code, f"watermarks of {tp.topic}[{tp.partition}]")
        return max(low.value, 0), max(high.value, 0)

    def _drop(self, partitions: Iterable[TopicPartition]) -> None:
        """Forget records that were gathered and not returned; the position stays before them."""
        for tp in partitions:
            first = self._native.ts_drop(self._client.state, tp.topic.encode(), tp.partition)
            if first >= 0:
                self._position.setdefault(tp, first)
