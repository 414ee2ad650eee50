"""What the lake asks Kafka about its topics."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

from confluent_kafka import KafkaException, TopicCollection
from confluent_kafka.admin import AdminClient

_log = logging.getLogger(__name__)


class TopicsUnavailable(Exception):  # noqa: N818
    """Kafka did not answer, or a topic is not there."""


class Topics:
    """Topic ids: a topic that was deleted and made anew has its old name and another id."""

    def __init__(self, bootstrap: str) -> None:
        self._admin = AdminClient({"bootstrap.servers": bootstrap}, logger=_log)

    def ids(self, names: Sequence[str], seconds: float = 5.0) -> dict[str, str]:
        """Name -> topic id as Kafka's tools print it (URL-safe base64). Raises TopicsUnavailable."""
        return {name: str(found.topic_id) for name, found in self._describe(names, seconds).items()}

    def partitions(self, names: Sequence[str], seconds: float = 5.0) -> dict[str, int]:
        """Name -> number of partitions. Raises TopicsUnavailable."""
        return {name: len(found.partitions) for name, found in self._describe(names, seconds).items()}

    def _describe(self, names: Sequence[str], seconds: float) -> dict[str, Any]:
        futures = self._admin.describe_topics(TopicCollection(list(names)), request_timeout=seconds)
        try:
            return {name: future.result(seconds + 1) for name, future in futures.items()}
        except (KafkaException, TimeoutError) as error:
            raise TopicsUnavailable(f"cannot describe {', '.join(names)}: {error}") from error
