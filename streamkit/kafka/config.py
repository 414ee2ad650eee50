"""The settings of every Kafka client in the platform, each with its reason."""

from __future__ import annotations

from typing import Any

MAX_RECORD_BYTES = 32 * 1024 * 1024
TRANSACTION_TIMEOUT_MS = 10_000
SESSION_TIMEOUT_MS = 10_000

_COMMON: dict[str, Any] = {
    # An outage ends when the broker is back, not ten seconds later.
    "reconnect.backoff.ms": 50,
    "reconnect.backoff.max.ms": 1_000,
    "socket.keepalive.enable": True,
    # Topics are made from the catalogue, with its partitions; a typo must not make another.
    "allow.auto.create.topics": False,
}


def consumer(bootstrap: str, group: str, instance_id: str | None) -> dict[str, Any]:
    """`instance_id`: static membership (KIP-345), so that a process killed and restarted in its slot gets
    its partitions back at once and not after the session timeout."""
    config: dict[str, Any] = {
        **_COMMON,
        "bootstrap.servers": bootstrap,
        "group.id": group,
        "client.id": instance_id or group,
        "enable.auto.commit": False,
        "enable.auto.offset.store": False,
        "auto.offset.reset": "earliest",
        "isolation.level": "read_committed",
        # The only way to know the end of a partition where transaction markers follow the last record.
        "enable.partition.eof": True,
        # Cooperative (KIP-429): partitions that do not move keep flowing, and a participant restores only
        # the state of those that do. Range would co-partition topics, which no stage needs.
        "partition.assignment.strategy": "cooperative-sticky",
        "session.timeout.ms": SESSION_TIMEOUT_MS,
        "heartbeat.interval.ms": 1_000,
        # The broker answers at the first byte, so a long wait costs no latency (a hop at 1,000 records/s,
        # measured in turns: p50 23 and 21 ms with 10, 23 and 19 ms with 250), and an idle client costs half
        # the CPU. A seek may have to wait for it.
        "fetch.min.bytes": 1,
        "fetch.wait.max.ms": 250,
        "fetch.message.max.bytes": 4 * 1024 * 1024,
        "fetch.error.backoff.ms": 100,
        # Read ahead while a batch is processed; bounded in bytes.
        "queued.min.messages": 100_000,
        "queued.max.messages.kbytes": 64 * 1024,
        # By default a full queue stops fetching for a second, which is longer than it takes to empty it.
        "fetch.queue.backoff.ms": 10,
    }
    if instance_id is not None:
        config["group.instance.id"] = instance_id
    return config


def producer(bootstrap: str, client_id: str) -> dict[str, Any]:
    return {
        **_COMMON,
        "bootstrap.servers": bootstrap,
        "client.id": client_id,
        "acks": "all",
        "enable.idempotence": True,
        # Java's default for keyed records: two partitioners in one topic would split a key.
        "partitioner": "murmur2_random",
        "compression.type": "lz4",
        "linger.ms": 5,
        "batch.size": 1_000_000,
        "message.max.bytes": MAX_RECORD_BYTES,
        # No limit by count: callers bound what is in flight by waiting for the acknowledgements.
        "queue.buffering.max.messages": 0,
        "queue.buffering.max.kbytes": 1024 * 1024,
        "delivery.timeout.ms": 30_000,
    }


def transactional(bootstrap: str, transactional_id: str) -> dict[str, Any]:
    return {
        **producer(bootstrap, transactional_id),
        "transactional.id": transactional_id,
        # A killed process leaves a transaction open, and its readers wait this long at most.
        "transaction.timeout.ms": TRANSACTION_TIMEOUT_MS,
        "delivery.timeout.ms": TRANSACTION_TIMEOUT_MS,
        # `commit` flushes, so this delays nothing; it fills the batches of a large transaction.
        "linger.ms": 5,
        # Success needs no callback per record: a transaction with a failed record cannot commit.
        "delivery.report.only.error": True,
    }
