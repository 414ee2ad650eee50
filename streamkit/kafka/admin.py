"""Topics: making them and asking about them."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

import confluent_kafka as ck
from confluent_kafka import admin as ck_admin

from streamkit.kafka.errors import error_of, translate
from streamkit.ports import BrokerError, NewTopic, TopicPartition

_POLL_S = 0.05


class KafkaAdmin:
    def __init__(self, bootstrap: str, timeout_s: float = 30.0) -> None:
        self._client = ck_admin.AdminClient(
            {
                "bootstrap.servers": bootstrap,
                "reconnect.backoff.max.ms": 1_000,
                "client.id": "tillstream.admin",
            }
        )
        self._timeout_s = timeout_s

    def ensure_topics(self, topics: Sequence[NewTopic]) -> None:
        if not topics:
            return
        created = self._client.create_topics(
            [
                ck_admin.NewTopic(
                    t.name, t.partitions, replication_factor=t.replication_factor, config=dict(t.config)
                )
                for t in topics
            ],
            request_timeout=self._timeout_s,
        )
        existing = []
        for topic in topics:
            try:
                created[topic.name].result()
            except ck.KafkaException as e:
                if error_of(e).code() != ck.KafkaError.TOPIC_ALREADY_EXISTS:
                    raise translate(e, f"create topic {topic.name}") from e
                existing.append(topic)
        self._wait_until_known([t.name for t in topics])
        for topic in existing:
            self._check_partitions(topic)
        self._set_configs([t for t in existing if t.config])

    def topic_ids(self, topics: Sequence[str]) -> dict[str, str]:
        return {name: str(description.topic_id) for name, description in self._describe(topics).items()}

    def topics(self) -> set[str]:
        """Names of all topics."""
        try:
            return set(self._client.list_topics(timeout=self._timeout_s).topics)
        except ck.KafkaException as e:
            raise translate(e, "list topics") from e

    def partitions(self, topic: str) -> list[TopicPartition]:
        return [TopicPartition(topic, p.id) for p in self._describe([topic])[topic].partitions]

    def end_offsets(self, topic: str) -> dict[TopicPartition, int]:
        wanted = {
            ck.TopicPartition(topic, tp.partition): ck_admin.OffsetSpec.latest()
            for tp in self.partitions(topic)
        }
        try:
            answers = self._client.list_offsets(wanted, request_timeout=self._timeout_s)
            return {TopicPartition(topic, tp.partition): answers[tp].result().offset for tp in wanted}
        except ck.KafkaException as e:
            raise translate(e, f"list offsets of {topic}") from e

    def committed_offsets(self, group: str, topic: str) -> dict[TopicPartition, int]:
        """What a group has committed, whoever its members are; partitions without a commit are left out."""
        request = ck.ConsumerGroupTopicPartitions(group)
        try:
            answers = self._client.list_consumer_group_offsets([request], request_timeout=self._timeout_s)
            committed = answers[group].result().topic_partitions
        except ck.KafkaException as e:
            raise translate(e, f"offsets of group {group}") from e
        return {
            TopicPartition(tp.topic, tp.partition): tp.offset
            for tp in committed
            if tp.topic == topic and tp.offset >= 0
        }

    def close(self) -> None:
        self._client = None

    def _describe(self, topics: Sequence[str]) -> dict[str, Any]:
        try:
            answers = self._client.describe_topics(
                ck.TopicCollection(list(topics)), request_timeout=self._timeout_s
            )
            return {name: answer.result() for name, answer in answers.items()}
        except ck.KafkaException as e:
            raise translate(e, f"describe topics {', '.join(topics)}") from e

    def _wait_until_known(self, topics: Sequence[str]) -> None:
        """The controller answers before every broker has learned of a new topic."""
        deadline = time.monotonic() + self._timeout_s
        while True:
            try:
                self._describe(topics)
                return
            except BrokerError:
                if time.monotonic() >= deadline:
                    raise
                time.sleep(_POLL_S)

    def _check_partitions(self, topic: NewTopic) -> None:
        found = len(self.partitions(topic.name))
        if found != topic.partitions:
            raise BrokerError(
                f"topic {topic.name} has {found} partitions and the catalogue says {topic.partitions}: "
                "a changed count moves keys; make a new topic"
            )

    def _set_configs(self, topics: Sequence[NewTopic]) -> None:
        if not topics:
            return
        resources = [
            ck_admin.ConfigResource(
                ck_admin.ConfigResource.Type.TOPIC,
                t.name,
                incremental_configs=[
                    ck_admin.ConfigEntry(name, value, incremental_operation=ck_admin.AlterConfigOpType.SET)
                    for name, value in t.config.items()
                ],
            )
            for t in topics
        ]
        answers = self._client.incremental_alter_configs(resources, request_timeout=self._timeout_s)
        for resource, answer in answers.items():
            try:
                answer.result()
            except ck.KafkaException as e:
                raise translate(e, f"configure topic {resource.name}") from e
