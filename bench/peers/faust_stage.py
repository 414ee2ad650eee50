"""Faust (faust-streaming): one agent, a loop over the stream, `send` for each result.

Guarantee: at least once. Its `exactly_once` lost that promise when processes were killed, so it is not used.
Tuning: raw bytes in and out, no web server, no leader topic, acknowledgements waited for in bulk after
every `commit_every` records, lz4 and large batches.
"""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Awaitable
from typing import Any

import faust

from bench.peers.protocol import Config, Reporter
from bench.transform.by_record import stage


def build(config: Config) -> Any:
    process, reporter = stage(config.document()), Reporter(config)
    app = faust.App(
        config.group,
        broker=f"kafka://{config.bootstrap}",
        store="memory://",
        datadir=config.state,
        web_enabled=False,
        topic_allow_declare=False,
        topic_disable_leader=True,
        stream_wait_empty=False,
        consumer_auto_offset_reset="earliest",
        broker_commit_every=config.commit_every,
        producer_linger=0.02,
        producer_max_batch_size=1_000_000,
        producer_compression_type="lz4",
    )
    given = app.topic(
        config.topic_in, key_type=bytes, key_serializer="raw", value_type=bytes, value_serializer="raw"
    )
    wanted = app.topic(
        config.topic_out, key_type=bytes, key_serializer="raw", value_type=bytes, value_serializer="raw"
    )

    async def transform(values: Any) -> None:
        sent: list[Awaitable[Any]] = []
        async for value in values:
            reporter.start()
            out = process(value)
            if out is not None:
                sent.append(await wanted.send(key=out[0], value=out[1]))
            done = reporter.add()
            if done % config.commit_every == 0 or done == config.records:
                await asyncio.gather(*sent)
                sent = []
            if done == config.records:
                reporter.end()
                os._exit(0)

    app.agent(given)(transform)
    return app


def main(config: Config) -> None:
    app = build(config)
    sys.argv = ["faust", "worker", "-l", "warn"]
    app.main()


if __name__ == "__main__":
    main(Config.read(sys.argv[1]))
