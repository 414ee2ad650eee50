"""The ports of `streamkit.ports` on confluent-kafka (librdkafka)."""

from streamkit.kafka.admin import KafkaAdmin
from streamkit.kafka.config import MAX_RECORD_BYTES, SESSION_TIMEOUT_MS, TRANSACTION_TIMEOUT_MS
from streamkit.kafka.consumer import KafkaConsumer
from streamkit.kafka.follower import KafkaFollower
from streamkit.kafka.producers import KafkaProducer, KafkaTransactionalProducer

__all__ = [
    "MAX_RECORD_BYTES",
    "SESSION_TIMEOUT_MS",
    "TRANSACTION_TIMEOUT_MS",
    "KafkaAdmin",
    "KafkaConsumer",
    "KafkaFollower",
    "KafkaProducer",
    "KafkaTransactionalProducer",
]
