"""The adapter to Kafka: follows the end of a topic on a thread of its own, without a group."""

from __future__ import annotations

import logging
import threading
from collections.abc import Sequence
from typing import Any, Protocol

import confluent_kafka as ck

log = logging.getLogger(__name__)
_client_log = logging.getLogger("rdkafka")

_POLL_S = 0.2
_MOST = 5_000
_AGAIN_S = 1.0
_TIMEOUT_S = 10.0
_FURTHER = 20


class Reader(Protocol):
    """What is done with the records; called on the tail's thread."""

    def begin(self) -> None:
        """A connection is made. What is read next may lie before what was read last."""

    def read(self, messages: Sequence[Any]) -> None:
        """Committed records, per partition in order."""

    def lacking(self, partitions: Sequence[int]) -> Sequence[int]:
        """Of these, which were read up to their end, the ones that must be read from further back."""

    def complete(self) -> None:
        """All partitions were read up to their end, and none must be read from further back."""


class TopicTail:
    """Goes on after any failure, a second later. `back`: how many offsets before the end to begin."""

    def __init__(self, bootstrap: str, topic: str, reader: Reader, *, back: int = 0) -> None:
        self._bootstrap = bootstrap
        self._topic = topic
        self._reader = reader
        self._back = back
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        self._stop = threading.Event()
        self._thread = threading.Thread(
            target=self._run, args=(self._stop,), name=f"tail-{self._topic}", daemon=True
        )
        self._thread.start()

    def stop(self) -> None:
        """Returns at once; the thread ends within a poll."""
        self._stop.set()

    def _run(self, stop: threading.Event) -> None:
        while not stop.is_set():
            client = ck.Consumer(_config(self._bootstrap, self._topic), logger=_client_log)
            try:
                self._follow(client, stop)
            except Exception as error:
                log.warning("the live feed is interrupted", extra={"topic": self._topic, "error": str(error)})
                stop.wait(_AGAIN_S)
            finally:
                client.close()

    def _follow(self, client: Any, stop: threading.Event) -> None:
        bounds = self._bounds(client)
        starts = {p: max(low, high - self._back) for p, (low, high) in bounds.items()}
        self._reader.begin()
        client.assign([ck.TopicPartition(self._topic, p, start) for p, start in starts.items()])
        ended: set[int] = set()
        searching, back = True, self._back
        while not stop.is_set():
            # consume(n, t) waits the whole of t unless n came: so one first, then what else is there.
            messages = client.consume(1, _POLL_S)
            if messages:
                messages += client.consume(_MOST, 0.0)
            if records := [m for m in messages if not self._is_end(m, ended)]:
                self._reader.read(records)
            if searching and ended >= starts.keys():
                lacking = [p for p in self._reader.lacking(list(starts)) if starts[p] > bounds[p][0]]
                searching, back = bool(lacking), back * _FURTHER
                for p in lacking:
                    starts[p] = max(bounds[p][0], bounds[p][1] - back)
                    client.seek(ck.TopicPartition(self._topic, p, starts[p]))
                ended -= set(lacking)
                if not searching:
                    self._reader.complete()

    def _bounds(self, client: Any) -> dict[int, tuple[int, int]]:
        found = client.list_topics(self._topic, timeout=_TIMEOUT_S).topics[self._topic]
        if found.error is not None:
            raise ck.KafkaException(found.error)
        return {
            p: client.get_watermark_offsets(ck.TopicPartition(self._topic, p), timeout=_TIMEOUT_S)
            for p in found.partitions
        }

    def _is_end(self, message: Any, ended: set[int]) -> bool:
        """Takes note of a partition's end. Raises what is neither that nor a record."""
        error = message.error()
        if error is None:
            return False
        if error.code() == ck.KafkaError._PARTITION_EOF:
            ended.add(message.partition())
            return True
        raise ck.KafkaException(error)


def _config(bootstrap: str, topic: str) -> dict[str, Any]:
    return {
        "bootstrap.servers": bootstrap,
        # Required by the client; nothing is committed and nothing joined.
        "group.id": f"tillstream.query.{topic}",
        "enable.auto.commit": False,
        "auto.offset.reset": "earliest",
        "isolation.level": "read_committed",
        "enable.partition.eof": True,
        "fetch.wait.max.ms": 250,
        "fetch.queue.backoff.ms": 10,
        "reconnect.backoff.max.ms": 1_000,
        "allow.auto.create.topics": False,
    }
