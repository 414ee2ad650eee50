"""A plain loop: confluent-kafka and fastavro, record by record, exactly once by transactions.

Tuning: records are fetched 1,000 at a time, a transaction holds `commit_every` of them, lz4, 1 MB batches.
"""

from __future__ import annotations

import sys

from confluent_kafka import Consumer, Producer

from bench.peers.protocol import Config, Reporter
from bench.transform.by_record import stage

_FETCH = 1_000


def main(config: Config) -> None:
    process, reporter = stage(config.document()), Reporter(config)
    consumer = Consumer(
        {
            "bootstrap.servers": config.bootstrap,
            "group.id": config.group,
            "auto.offset.reset": "earliest",
            "enable.auto.commit": False,
            "isolation.level": "read_committed",
            "queued.min.messages": 100_000,
        }
    )
    producer = Producer(
        {
            "bootstrap.servers": config.bootstrap,
            "transactional.id": config.group,
            "linger.ms": 20,
            "batch.size": 1_000_000,
            "compression.type": "lz4",
            "partitioner": "murmur2_random",
            "queue.buffering.max.messages": 500_000,
            "delivery.report.only.error": True,
        }
    )
    producer.init_transactions()
    consumer.subscribe([config.topic_in])
    produce, topic = producer.produce, config.topic_out
    done, committed, is_open = 0, 0, False
    while done < config.records:
        messages = consumer.consume(_FETCH, 0.2)
        if not messages:
            continue
        reporter.start()
        if not is_open:
            producer.begin_transaction()
            is_open = True
        for message in messages:
            if message.error() is not None:
                raise RuntimeError(message.error())
            out = process(message.value())
            if out is not None:
                produce(topic, out[1], out[0])
        producer.poll(0)
        done = reporter.add(len(messages))
        if done - committed >= config.commit_every or done >= config.records:
            positions = consumer.position(consumer.assignment())
            producer.send_offsets_to_transaction(positions, consumer.consumer_group_metadata())
            producer.commit_transaction()
            committed, is_open = done, False
    reporter.end()
    consumer.close()


if __name__ == "__main__":
    main(Config.read(sys.argv[1]))
