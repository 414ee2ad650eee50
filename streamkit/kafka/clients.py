"""Which Kafka clients a stage uses: the native ones where their library is there, else confluent-kafka's."""

from __future__ import annotations

import logging
from functools import cache
from typing import Literal

from native.library import NativeUnavailable, load_with_kafka
from streamkit.kafka.consumer import KafkaConsumer
from streamkit.kafka.librdkafka import functions
from streamkit.kafka.native_consumer import NativeConsumer
from streamkit.kafka.native_producers import NativeProducer, NativeTransactionalProducer
from streamkit.kafka.producers import KafkaProducer, KafkaTransactionalProducer
from streamkit.ports import Consumer, Producer, TransactionalProducer

Engine = Literal["auto", "native", "python"]

log = logging.getLogger(__name__)


@cache
def chosen(engine: Engine) -> Literal["native", "python"]:
    """What `engine` means here: `auto` is native where it can be loaded. Says so in the log, once.

    Raises `NativeUnavailable` where native was asked for and is not there.
    """
    if engine == "python":
        log.info("kafka clients", extra={"engine": "python", "reason": "as set"})
        return "python"
    try:
        load_with_kafka()
        functions()
    except (NativeUnavailable, AttributeError) as error:
        if engine == "native":
            raise NativeUnavailable(f"TILLSTREAM_ENGINE=native: {error}") from error
        log.warning("kafka clients", extra={"engine": "python", "reason": f"no native library: {error}"})
        return "python"
    log.info("kafka clients", extra={"engine": "native"})
    return "native"


class Clients:
    """Makes the clients of one engine, so that a consumer and a producer always go together."""

    def __init__(self, bootstrap: str, engine: Engine = "auto") -> None:
        self._bootstrap = bootstrap
        self._native = chosen(engine) == "native"

    def consumer(self, group: str, instance_id: str | None = None) -> Consumer:
        return (NativeConsumer if self._native else KafkaConsumer)(self._bootstrap, group, instance_id)

    def transactional(self, transactional_id: str) -> TransactionalProducer:
        made = NativeTransactionalProducer if self._native else KafkaTransactionalProducer
        return made(self._bootstrap, transactional_id)

    def producer(self, client_id: str = "tillstream") -> Producer:
        return (NativeProducer if self._native else KafkaProducer)(self._bootstrap, client_id)
