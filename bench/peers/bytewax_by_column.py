"""Bytewax, given the very step of ours on whole batches: `flat_map_batch`.

Guarantee and tuning as in `bytewax_by_record`; what differs from ours is how records come in and go out.
"""

from __future__ import annotations

import sys
from typing import Any

import bytewax.operators as op
import polars as pl
from bytewax.connectors.kafka import KafkaSink, KafkaSinkMessage, KafkaSource
from bytewax.dataflow import Dataflow
from bytewax.testing import run_main

from bench.peers.bytewax_by_record import PRODUCER
from bench.peers.protocol import Config, Reporter
from bench.transform.by_column import Stage
from bench.transform.dataset import raw_schema
from bench.transform.reference import OUT_SCHEMA


def main(config: Config) -> None:
    stage, reporter = Stage(config.document(), raw_schema(), OUT_SCHEMA.read_text()), Reporter(config)
    source = KafkaSource([config.bootstrap], [config.topic_in], tail=False, batch_size=config.commit_every)
    sink = KafkaSink([config.bootstrap], config.topic_out, add_config=PRODUCER)
    flow = Dataflow("stage")
    records: Any = op.input("in", flow, source)

    def transform(messages: list[Any]) -> list[Any]:
        reporter.start()
        out = stage.process([message.value for message in messages])
        reporter.add(len(messages))
        return list(map(KafkaSinkMessage, out.keys.cast(pl.Binary).to_list(), out.values))

    op.output("out", op.flat_map_batch("transform", records, transform), sink)
    run_main(flow)
    reporter.end()


if __name__ == "__main__":
    main(Config.read(sys.argv[1]))
