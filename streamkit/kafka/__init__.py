"""The ports of `streamkit.ports` on librdkafka: through confluent-kafka, and natively as columns."""

from streamkit.kafka.admin import KafkaAdmin
from streamkit.kafka.clients import Clients, Engine
from streamkit.kafka.config import MAX_RECORD_BYTES, SESSION_TIMEOUT_MS, TRANSACTION_TIMEOUT_MS
from streamkit.kafka.consumer import KafkaConsumer
from streamkit.kafka.follower import KafkaFollower
from streamkit.kafka.native_consumer import NativeConsumer
from streamkit.kafka.native_producers import NativeProducer, NativeTransactionalProducer
from streamkit.kafka.producers import KafkaProducer, KafkaTransactionalProducer

__all__ = [
    "MAX_RECORD_BYTES",
    "SESSION_TIMEOUT_MS",
    "TRANSACTION_TIMEOUT_MS",
    "Clients",
    "Engine",
    "KafkaAdmin",
    "KafkaConsumer",
    "KafkaFollower",
    "KafkaProducer",
    "KafkaTransactionalProducer",
    "NativeConsumer",
    "NativeProducer",
    "NativeTransactionalProducer",
]
