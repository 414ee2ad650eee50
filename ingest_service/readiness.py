"""Whether the broker and the registry can be used, looked at from a thread of its own."""

from __future__ import annotations

import logging
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import polars as pl

from ingest_service.pipeline import Encoders, NotReady
from ingest_service.records import QUARANTINE_TOPIC, RAW_TOPIC
from schemas import catalogue
from schemas.catalogue import Topic
from schemas.codec import Codec
from schemas.registry import RegistryClient, RegistryError
from streamkit.ports import Admin, BrokerError
from streamkit.stats import StageStats

log = logging.getLogger(__name__)

_UNREADY_S: Final = 0.5
_READY_S: Final = 5.0
_CONVINCING_LOOKS: Final = 2


@dataclass(frozen=True, slots=True)
class RegisteredCodec:
    """A codec with the id that the registry gave its schema."""

    codec: Codec
    schema_id: int

    def encode(self, frame: pl.DataFrame) -> list[bytes]:
        return self.codec.encode(frame, self.schema_id)


class Gate:
    """The schema ids are asked for until they are known, and never change after; the broker is asked again
    and again. While it does not answer, requests are turned away at once and not after a timeout each; one
    look that fails is not enough for that, because a busy broker may be slow to describe its topics."""

    def __init__(
        self, *, registry: RegistryClient, admin: Admin, topics: Mapping[str, Topic], stats: StageStats
    ) -> None:
        self._registry = registry
        self._admin = admin
        self._topics = {name: topics[name] for name in (RAW_TOPIC, QUARANTINE_TOPIC)}
        self._stats = stats
        self._encoders: Encoders | None = None
        self._failed_looks = 0
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="readiness", daemon=True)

    def encoders(self) -> Encoders:
        """Raises `NotReady` until the registry has answered once, and while the broker does not answer."""
        if self._encoders is None:
            raise NotReady("the schema registry has not answered yet")
        if self._failed_looks >= _CONVINCING_LOOKS:
            raise NotReady("Kafka does not answer")
        return self._encoders

    def start(self) -> None:
        self._thread.start()

    def close(self) -> None:
        self._stop.set()
        self._thread.join()
        self._admin.close()

    def look(self) -> str | None:
        """Why the service is not ready, or None; told to the stats too."""
        reason = self._registry_trouble() or self._broker_trouble()
        if reason is None:
            self._stats.ready()
        elif self._encoders is None:
            self._stats.starting(reason)
        else:
            self._stats.degraded(reason)
        return reason

    def _run(self) -> None:
        last: str | None = "starting"
        while not self._stop.is_set():
            reason = self.look()
            if reason != last:
                log.info("readiness", extra={"ready": reason is None, "reason": reason})
            last = reason
            self._stop.wait(_READY_S if reason is None else _UNREADY_S)

    def _registry_trouble(self) -> str | None:
        if self._encoders is not None:
            return None
        try:
            ids = catalogue.register_all(self._registry, self._topics)
        except RegistryError as error:
            return f"the schema registry: {error}"
        sales, quarantine = (
            RegisteredCodec(Codec(topic.schema_text, self._registry), ids[name])
            for name, topic in self._topics.items()
        )
        self._encoders = Encoders(sales, quarantine)
        return None

    def _broker_trouble(self) -> str | None:
        try:
            self._admin.topic_ids(list(self._topics))
        except BrokerError as error:
            self._failed_looks += 1
            return f"Kafka: {error}"
        self._failed_looks = 0
        return None
