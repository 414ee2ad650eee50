"""Bytewax, record by record: `filter_map` between its Kafka source and sink.

Guarantee: at least once; its Kafka sink has no transactions, and without its recovery store, as here, a crash
reads everything again. Tuning: source batches of `commit_every` records, lz4 and large batches.
"""

from __future__ import annotations

import sys
from typing import Any

import bytewax.operators as op
from bytewax.connectors.kafka import KafkaSink, KafkaSinkMessage, KafkaSource
from bytewax.dataflow import Dataflow
from bytewax.testing import run_main

from bench.peers.protocol import Config, Reporter
from bench.transform.by_record import stage

PRODUCER = {
    "linger.ms": "20",
    "batch.size": "1000000",
    "compression.type": "lz4",
    "partitioner": "murmur2_random",
}


def main(config: Config) -> None:
    process, reporter = stage(config.document()), Reporter(config)
    source = KafkaSource([config.bootstrap], [config.topic_in], tail=False, batch_size=config.commit_every)
    sink = KafkaSink([config.bootstrap], config.topic_out, add_config=PRODUCER)
    flow = Dataflow("stage")
    records: Any = op.input("in", flow, source)

    def transform(message: Any) -> Any:
        reporter.add()
        out = process(message.value)
        return None if out is None else KafkaSinkMessage(out[0], out[1])

    op.output("out", op.filter_map("transform", records, transform), sink)
    run_main(flow)
    reporter.end()


if __name__ == "__main__":
    main(Config.read(sys.argv[1]))
