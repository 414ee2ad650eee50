"""The consumer on librdkafka."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import confluent_kafka as ck

from streamkit.kafka import config
from streamkit.kafka.batches import by_topic, split_at_bounds
from streamkit.kafka.errors import error_of, translate
from streamkit.ports import BrokerError, GroupMetadata, RecordBatch, TopicPartition

log = logging.getLogger(__name__)
_client_log = logging.getLogger("rdkafka")

# librdkafka's consume(n, timeout) waits the whole timeout unless n came, so lingering goes in slices.
_SLICE_S = 0.001
_COMMITTED_TIMEOUT_S = 30.0
_WATERMARK_TIMEOUT_S = 2.0

OnAssign = Callable[[Sequence[TopicPartition]], Mapping[TopicPartition, int] | None]
OnRemove = Callable[[Sequence[TopicPartition]], None]


class KafkaConsumer:
    """Not thread-safe: it belongs to the thread of its runner.

    Records that a poll gathered beyond its bounds are held for the next one. They are dropped when their
    partition is revoked, paused or moved, and then read again from the broker.
    """

    def __init__(self, bootstrap: str, group: str, instance_id: str | None = None) -> None:
        """`instance_id`, the slot's stable name, makes the membership static (KIP-345): fast hand-over
        to the restarted process, slow (the session timeout) to another member when this one leaves."""
        self._client = ck.Consumer(config.consumer(bootstrap, group, instance_id), logger=_client_log)
        self._held: list[Any] = []
        self._gathered: list[Any] = []
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
        self._client.subscribe(
            list(topics), on_assign=self._assigned, on_revoke=self._revoked, on_lost=self._lost
        )

    def assignment(self) -> list[TopicPartition]:
        return [_ours(tp) for tp in self._client.assignment()]

    def group_metadata(self) -> GroupMetadata:
        metadata: GroupMetadata = self._client.consumer_group_metadata()
        return metadata

    def close(self) -> None:
        self._client.close()

    def _assigned(self, client: Any, raw: Sequence[Any]) -> None:
        partitions = [_ours(tp) for tp in raw]
        starts = dict(self._on_assign(partitions) or {})
        unknown = [tp for tp in partitions if tp not in starts]
        starts |= {tp: o for tp, o in self.committed(unknown).items() if o is not None}
        self._position |= starts
        client.incremental_assign(
            [
                ck.TopicPartition(tp.topic, tp.partition, starts.get(tp, ck.OFFSET_BEGINNING))
                for tp in partitions
            ]
        )
        # librdkafka remembers a pause from before the partition was last revoked.
        client.resume(_theirs(partitions))

    def _revoked(self, client: Any, raw: Sequence[Any]) -> None:
        partitions = self._forget(raw)
        self._on_revoke(partitions)
        client.incremental_unassign(list(raw))

    def _lost(self, client: Any, raw: Sequence[Any]) -> None:
        partitions = self._forget(raw)
        self._on_lost(partitions)
        client.incremental_unassign(list(raw))

    def _forget(self, raw: Sequence[Any]) -> list[TopicPartition]:
        partitions = [_ours(tp) for tp in raw]
        # Without this, a batch gathered before the revocation would be committed under the new generation.
        self._drop(partitions)
        for tp in partitions:
            self._position.pop(tp, None)
            self._end.pop(tp, None)
            self._paused.discard(tp)
        return partitions

    # Reading ----------------------------------------------------------------------------------------

    def poll(self, max_records: int, max_bytes: int, timeout_s: float, linger_s: float) -> list[RecordBatch]:
        self._gathered, self._held = self._held, []
        try:
            self._wait_for_first(timeout_s)
            self._linger(max_records, max_bytes, linger_s)
            taken, self._held = split_at_bounds(self._gathered, max_records, max_bytes)
        finally:
            self._gathered = []
        batches = by_topic(taken)
        for batch in batches:
            self._position |= batch.next_offsets()
        return batches

    def _wait_for_first(self, timeout_s: float) -> None:
        deadline = time.monotonic() + timeout_s
        while not self._gathered:
            self._gather(1, max(deadline - time.monotonic(), 0.0))
            if time.monotonic() >= deadline:
                return

    def _linger(self, max_records: int, max_bytes: int, linger_s: float) -> None:
        if not self._gathered:
            return
        deadline = time.monotonic() + linger_s
        timeout_s = 0.0
        size = sum(map(len, self._gathered))
        while len(self._gathered) < max_records and size < max_bytes:
            before = len(self._gathered)
            self._gather(max_records - before, timeout_s)
            size += sum(map(len, self._gathered[before:]))
            left_s = deadline - time.monotonic()
            if left_s <= 0:
                return
            timeout_s = min(_SLICE_S, left_s)

    def _gather(self, count: int, timeout_s: float) -> None:
        # Callbacks run inside this call and may drop from what was gathered before.
        try:
            messages = self._client.consume(count, timeout_s)
        except ck.KafkaException as e:
            raise translate(e, "poll") from e
        if any(map(ck.Message.error, messages)):
            messages = [m for m in messages if m.error() is None or self._event(m)]
        self._gathered += messages

    def _event(self, message: Any) -> bool:
        """Take note of an end of partition, log what passes by itself, raise what does not. Always False."""
        error = error_of(message.error())
        if error.code() == ck.KafkaError._PARTITION_EOF:
            self._end[TopicPartition(message.topic(), message.partition())] = message.offset()
            return False
        translated = translate(error, "poll")
        # What is fatal to the client comes as a message of this code, and not marked as fatal itself.
        if type(translated) is not BrokerError or error.fatal() or error.code() == ck.KafkaError._FATAL:
            raise translated
        log.warning("consumer error", extra={"error": str(translated)})
        return False

    # Positions --------------------------------------------------------------------------------------

    def pause(self, partitions: Sequence[TopicPartition]) -> None:
        self._drop(partitions)
        self._client.pause(_theirs(partitions))
        self._paused |= set(partitions)

    def resume(self, partitions: Sequence[TopicPartition]) -> None:
        self._client.resume(_theirs(partitions))
        self._paused -= set(partitions)
        # librdkafka goes on after the last record it handed over; those that we dropped lie before that.
        self.seek({tp: self._position[tp] for tp in partitions if tp in self._position})

    def seek(self, offsets: Mapping[TopicPartition, int]) -> None:
        self._drop(offsets)
        assigned = set(self.assignment())
        for tp, offset in offsets.items():
            if tp not in assigned:
                continue
            try:
                self._client.seek(ck.TopicPartition(tp.topic, tp.partition, offset))
            except ck.KafkaException as e:
                raise translate(e, f"seek {tp.topic}[{tp.partition}]") from e
            self._position[tp] = offset
            self._end.pop(tp, None)

    def committed(self, partitions: Sequence[TopicPartition]) -> dict[TopicPartition, int | None]:
        """Waits for a transaction that is open on these offsets (KIP-447): its outcome is included."""
        if not partitions:
            return {}
        try:
            answers = self._client.committed(_theirs(partitions), _COMMITTED_TIMEOUT_S)
        except ck.KafkaException as e:
            raise translate(e, "fetch committed offsets") from e
        for tp in answers:
            if tp.error is not None:
                raise translate(tp.error, f"fetch committed offset of {tp.topic}[{tp.partition}]")
        return {_ours(tp): tp.offset if tp.offset >= 0 else None for tp in answers}

    def commit(self, offsets: Mapping[TopicPartition, int]) -> None:
        if not offsets:
            return
        try:
            self._client.commit(
                offsets=[ck.TopicPartition(tp.topic, tp.partition, o) for tp, o in offsets.items()],
                asynchronous=False,
            )
        except ck.KafkaException as e:
            raise translate(e, "commit offsets") from e

    def lag(self) -> dict[TopicPartition, int]:
        return {tp: self._lag_of(tp) for tp in self.assignment()}

    def _lag_of(self, tp: TopicPartition) -> int:
        low, high = self._watermarks(tp)
        position = self._position.get(tp, low)
        reached_end = self._end.get(tp, -1) >= high and not any(_of(m) == tp for m in self._held)
        return 0 if reached_end else max(high - position, 0)

    def _watermarks(self, tp: TopicPartition) -> tuple[int, int]:
        partition = ck.TopicPartition(tp.topic, tp.partition)
        low, high = self._client.get_watermark_offsets(partition, cached=True)
        if high < 0 or tp in self._paused:
            # Nothing fetched yet, or nothing fetched any more: the cache does not know.
            try:
                low, high = self._client.get_watermark_offsets(partition, timeout=_WATERMARK_TIMEOUT_S)
            except ck.KafkaException as e:
                raise translate(e, f"watermarks of {tp.topic}[{tp.partition}]") from e
        return max(low, 0), max(high, 0)

    def _drop(self, partitions: Iterable[TopicPartition]) -> None:
        """Forget records that were gathered and not returned; the position stays before them."""
        gone = set(partitions)
        for message in self._held + self._gathered:
            if _of(message) in gone:
                self._position.setdefault(_of(message), message.offset())
        self._held = [m for m in self._held if _of(m) not in gone]
        self._gathered = [m for m in self._gathered if _of(m) not in gone]


def _of(message: Any) -> TopicPartition:
    return TopicPartition(message.topic(), message.partition())


def _ours(tp: Any) -> TopicPartition:
    return TopicPartition(tp.topic, tp.partition)


def _theirs(partitions: Iterable[TopicPartition]) -> list[Any]:
    return [ck.TopicPartition(tp.topic, tp.partition) for tp in partitions]
