"""Kafka's admin API, and a consumer that reads what lies behind a position."""

from __future__ import annotations

import logging
import re
import time
from collections.abc import Iterable, Mapping
from typing import Any

import confluent_kafka as ck
from confluent_kafka import admin as ck_admin

from deploy.observability.lag.model import NOBODY, Bounds, Member, Position
from deploy.observability.lag.pipeline import Found, Wanted
from streamkit.kafka.errors import error_of, translate
from streamkit.ports import TopicPartition

_client_log = logging.getLogger("rdkafka")

_GONE = (
    ck.KafkaError.UNKNOWN_TOPIC_OR_PART,
    ck.KafkaError._UNKNOWN_TOPIC,
    ck.KafkaError._UNKNOWN_PARTITION,
)
_NO_GROUP = (ck.KafkaError.GROUP_ID_NOT_FOUND,)
_POLL_S = 0.1
_AT_ONCE = 500


class KafkaCluster:
    """`pipeline.Cluster` on librdkafka. Not thread-safe. It joins no group and commits nothing."""

    def __init__(
        self, bootstrap: str, groups: str = ".*", topics: str = ".*", timeout_s: float = 10.0
    ) -> None:
        """`groups`, `topics`: regular expressions of the whole names that are measured."""
        common = {"bootstrap.servers": bootstrap, "reconnect.backoff.max.ms": 1_000}
        self._admin = ck_admin.AdminClient({**common, "client.id": "tillstream.lag"}, logger=_client_log)
        self._reader = ck.Consumer(
            {
                **common,
                # Required by the client; partitions are assigned by hand.
                "group.id": "tillstream.lag",
                "client.id": "tillstream.lag",
                "enable.auto.commit": False,
                "auto.offset.reset": "earliest",
                "isolation.level": "read_committed",
                "enable.partition.eof": True,
                "allow.auto.create.topics": False,
                # Little is read at a time, and nothing ahead of what was asked for.
                "fetch.wait.max.ms": 10,
                "fetch.message.max.bytes": 1024 * 1024,
                "queued.min.messages": 1,
                "queued.max.messages.kbytes": 1024,
                "fetch.queue.backoff.ms": 10,
                "fetch.error.backoff.ms": 100,
            },
            logger=_client_log,
        )
        self._groups = re.compile(groups)
        self._topics = re.compile(topics)
        self._timeout_s = timeout_s

    def close(self) -> None:
        self._reader.close()

    # Positions --------------------------------------------------------------------------------------

    def positions(self) -> list[Position]:
        try:
            listed = self._admin.list_consumer_groups(request_timeout=self._timeout_s).result()
        except ck.KafkaException as e:
            raise translate(e, "list groups") from e
        active = {
            g.group_id: g.state not in (ck.ConsumerGroupState.EMPTY, ck.ConsumerGroupState.DEAD)
            for g in listed.valid
            if self._groups.fullmatch(g.group_id)
        }
        # All requests are under way before the first answer is waited for.
        offsets = {
            name: self._admin.list_consumer_group_offsets(
                [ck.ConsumerGroupTopicPartitions(name)], request_timeout=self._timeout_s
            )[name]
            for name in active
        }
        names = [name for name, has_members in active.items() if has_members]
        described = (
            self._admin.describe_consumer_groups(names, request_timeout=self._timeout_s) if names else {}
        )
        found: list[Position] = []
        for name in active:
            members = _members(_answer(described[name], f"group {name}")) if name in described else {}
            committed = _committed(_answer(offsets[name], f"offsets of group {name}"))
            found += [
                Position(name, tp, committed.get(tp), members.get(tp, NOBODY))
                for tp in sorted(committed.keys() | members.keys())
                if self._topics.fullmatch(tp.topic)
            ]
        return found

    # Offsets ----------------------------------------------------------------------------------------

    def bounds(self, partitions: Iterable[TopicPartition]) -> dict[TopicPartition, Bounds]:
        wanted = list(partitions)
        if not wanted:
            return {}
        spec, level = ck_admin.OffsetSpec, ck.IsolationLevel
        asked = [
            self._list_offsets(wanted, spec.earliest(), level.READ_UNCOMMITTED),
            self._list_offsets(wanted, spec.latest(), level.READ_UNCOMMITTED),
            self._list_offsets(wanted, spec.latest(), level.READ_COMMITTED),
        ]
        earliest, latest, stable = ({tp: _offset(future) for tp, future in each.items()} for each in asked)
        found = {}
        for tp in wanted:
            low, high, end = earliest[tp], latest[tp], stable[tp]
            if low is not None and high is not None and end is not None:
                found[tp] = Bounds(low, high, end)
        return found

    def _list_offsets(self, wanted: list[TopicPartition], spec: Any, level: Any) -> dict[TopicPartition, Any]:
        request = {ck.TopicPartition(tp.topic, tp.partition): spec for tp in wanted}
        futures = self._admin.list_offsets(request, isolation_level=level, request_timeout=self._timeout_s)
        return {TopicPartition(tp.topic, tp.partition): future for tp, future in futures.items()}

    def topic_ids(self, topics: Iterable[str]) -> dict[str, str]:
        futures = self._admin.describe_topics(
            ck.TopicCollection(list(topics)), request_timeout=self._timeout_s
        )
        answers = {name: _answer(future, f"topic {name}") for name, future in futures.items()}
        return {name: str(answer.topic_id) for name, answer in answers.items() if answer is not None}

    # Records ----------------------------------------------------------------------------------------

    def read(self, wanted: Mapping[TopicPartition, Wanted]) -> dict[TopicPartition, Found]:
        reads = {tp: _Read(each) for tp, each in wanted.items()}
        try:
            self._reader.assign(
                [ck.TopicPartition(tp.topic, tp.partition, w.begin) for tp, w in wanted.items()]
            )
            deadline = time.monotonic() + self._timeout_s
            while not all(read.done for read in reads.values()) and time.monotonic() < deadline:
                # To ask for more than one at once is to wait until so many have come.
                for message in self._reader.consume(1, _POLL_S) + self._reader.consume(_AT_ONCE, 0.0):
                    # A client's own error, such as a broken connection, names no partition.
                    read = reads.get(TopicPartition(message.topic() or "", message.partition()))
                    if read is not None:
                        read.take(message)
        except ck.KafkaException as e:
            raise translate(e, "read") from e
        finally:
            # An assigned partition is fetched from in the background.
            self._reader.unassign()
        return {tp: Found(r.offsets, r.times_ms, r.end) for tp, r in reads.items() if r.end > r.wanted.begin}


class _Read:
    """What came of one partition."""

    def __init__(self, wanted: Wanted) -> None:
        self.wanted = wanted
        self.offsets: list[int] = []
        self.times_ms: list[int] = []
        self.end = wanted.begin
        self.done = False

    def take(self, message: Any) -> None:
        if self.done:
            return
        error = message.error()
        if error is not None:
            if error.code() == ck.KafkaError._PARTITION_EOF:
                self.end = max(self.end, message.offset())
            # Whatever else it is (a topic that is gone, a leader that moved): the next measurement tells.
            self.done = True
            return
        self.offsets.append(message.offset())
        self.times_ms.append(message.timestamp()[1])
        self.end = message.offset() + 1
        self.done = self.end >= self.wanted.stop or len(self.offsets) >= self.wanted.limit


def _answer(future: Any, what: str) -> Any:
    """None for a group or topic that is gone by now. Raises `BrokerError`."""
    try:
        return future.result()
    except ck.KafkaException as e:
        if error_of(e).code() in (*_GONE, *_NO_GROUP):
            return None
        raise translate(e, what) from e


def _offset(future: Any) -> int | None:
    found = _answer(future, "list offsets")
    return None if found is None or found.offset < 0 else int(found.offset)


def _committed(answer: Any) -> dict[TopicPartition, int]:
    partitions = () if answer is None else answer.topic_partitions or ()
    return {TopicPartition(tp.topic, tp.partition): tp.offset for tp in partitions if tp.offset >= 0}


def _members(description: Any) -> dict[TopicPartition, Member]:
    if description is None:
        return {}
    return {
        TopicPartition(tp.topic, tp.partition): Member(m.host, m.member_id, m.client_id)
        for m in description.members
        if m.assignment is not None
        for tp in m.assignment.topic_partitions or ()
    }
