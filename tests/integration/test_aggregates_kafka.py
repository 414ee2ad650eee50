"""The aggregates process on a real broker: killed in mid-stream, moved, restored; and at 1,000 sales/s."""

from __future__ import annotations

import datetime as dt
import os
import random
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import polars as pl
import pytest

from deploy.local.layout import CHECKOUT
from deploy.local.ports import is_free
from deploy.local.testing import Servers
from gold_writer.aggregates.kafka_changelog import KafkaChangelog
from schemas.catalogue import load_topics
from schemas.codec import Codec
from schemas.registry import RegistryClient
from streamkit.kafka import KafkaAdmin, KafkaProducer
from streamkit.ports import Headers, NewTopic, OutputBatch
from tests.unit.aggregates.aggregates_world import (
    AGGREGATES,
    AT,
    ENRICHED,
    Totals,
    latest_totals,
    recount,
    sale,
)

PARTITIONS = 3


class Stream:
    """Topics of its own, sales for them, and the process that counts them."""

    def __init__(self, stack: Servers, home: Path) -> None:
        self.prefix = f"agg-{uuid.uuid4().hex[:8]}."
        self._stack = stack
        self._home = home
        topics, registry = load_topics(), RegistryClient(stack.registry)
        self._enriched_id = registry.register(topics[ENRICHED].subject, topics[ENRICHED].schema_text)
        self._codecs = {name: Codec(topics[name].schema_text, registry) for name in (ENRICHED, AGGREGATES)}
        self.admin = KafkaAdmin(stack.kafka)
        self.admin.ensure_topics(
            [
                NewTopic(self.prefix + ENRICHED, PARTITIONS),
                NewTopic(self.prefix + AGGREGATES, PARTITIONS, {"cleanup.policy": "compact"}),
            ]
        )
        self._producer = KafkaProducer(stack.kafka)
        self.sales: list[tuple[int, dict[str, Any]]] = []
        self.processes: list[subprocess.Popen[bytes]] = []
        self.port = next(port for port in range(24_500, 25_500) if is_free(port))

    def send(self, count: int) -> None:
        """Sales over all partitions, two days, five products and three countries."""
        begin, now = len(self.sales), time.time_ns() // 1_000_000
        rows = [_sale(begin + i) for i in range(count)]
        frame = pl.DataFrame(rows, schema=dict(self._codecs[ENRICHED].columns), orient="row")
        headers: list[Headers] = [[("ingest-ts", str(now).encode())]] * count
        shards = [(begin + i) % PARTITIONS for i in range(count)]
        values = self._codecs[ENRICHED].encode(frame, self._enriched_id)
        out = OutputBatch(self.prefix + ENRICHED, values, [b"k"] * count, headers, shards)
        self._producer.produce([out], 30.0)
        self.sales += zip(shards, rows, strict=True)

    def start(self, instance: str = "0") -> subprocess.Popen[bytes]:
        env = {
            **os.environ,
            "PYTHONPATH": str(CHECKOUT),
            "TILLSTREAM_KAFKA": self._stack.kafka,
            "TILLSTREAM_REGISTRY": self._stack.registry,
            "TILLSTREAM_SERVICE": self.prefix + "aggregates",
            "TILLSTREAM_INSTANCE": instance,
            "TILLSTREAM_HTTP_PORT": str(self.port if instance == "0" else 0),
            "TILLSTREAM_ENRICHED_TOPIC": self.prefix + ENRICHED,
            "TILLSTREAM_AGGREGATES_TOPIC": self.prefix + AGGREGATES,
            "TILLSTREAM_AGGREGATES_GROUP": self.prefix + "group",
            "TILLSTREAM_AGGREGATES_BATCH_RECORDS": "500",
        }
        log = (self._home / f"{self.prefix}{len(self.processes)}.log").open("wb")
        process = subprocess.Popen(
            [sys.executable, "-m", "gold_writer.aggregates"], env=env, stderr=log, stdout=log
        )
        self.processes.append(process)
        return process

    def consumed(self) -> int:
        """The input has no markers, so committed offsets count its records."""
        offsets = self.admin.committed_offsets(self.prefix + "group", self.prefix + ENRICHED)
        return sum(offsets.values())

    def wait_until_consumed(self, count: int, within_s: float = 60.0) -> None:
        deadline = time.monotonic() + within_s
        while self.consumed() < count:
            assert time.monotonic() < deadline, f"{self.consumed()} of {count} consumed in {within_s} s"
            assert self.processes[-1].poll() is None, "the process has ended: see its log"
            time.sleep(0.02)

    def published(self) -> Totals:
        changelog = KafkaChangelog(self._stack.kafka, self.prefix + AGGREGATES, self._codecs[AGGREGATES])
        return latest_totals([chunk for shard in range(PARTITIONS) for chunk in changelog.read(shard, 0)])

    def stats(self) -> dict[str, Any]:
        body: dict[str, Any] = httpx.get(f"http://127.0.0.1:{self.port}/stats").json()
        return body

    def close(self) -> None:
        for process in self.processes:
            if process.poll() is None:
                process.send_signal(signal.SIGTERM)
                process.wait(30)
        self._producer.close()
        self.admin.close()


def _sale(i: int) -> dict[str, Any]:
    is_return = i % 9 == 0
    return sale(
        event_id=f"e{i}",
        country=("EIRE", "United Kingdom", None)[i % 3],
        stock_code=f"8512{i % 5}",
        invoice_ts=AT + dt.timedelta(seconds=i % 600, days=i % 2),
        is_return=is_return,
        quantity=-i if is_return else i,
        amount_gbp_micros=None if i % 13 == 0 else (-1 if is_return else 1) * i * 1_000_003,
    )


@pytest.fixture
def stream(stack: Servers, tmp_path: Path) -> Iterator[Stream]:
    made = Stream(stack, tmp_path)
    try:
        yield made
    finally:
        made.close()


def test_kills_in_mid_stream_and_a_second_process_count_each_sale_once(stream: Stream) -> None:
    chance = random.Random(4)
    stream.send(6_000)
    for _ in range(4):
        process = stream.start()
        stream.wait_until_consumed(stream.consumed() + chance.randrange(1, 400))
        process.kill()
        process.wait()
    stream.send(3_000)
    stream.start()
    stream.wait_until_consumed(7_000)
    stream.start("1")
    stream.send(3_000)
    stream.wait_until_consumed(len(stream.sales))
    assert stream.published() == recount(stream.sales)


def test_the_feed_is_current_within_its_objective_at_1000_sales_a_second(stream: Stream) -> None:
    stream.start()
    stream.send(10)
    stream.wait_until_consumed(10)
    began = time.monotonic()
    for tick in range(1, 81):
        stream.send(100)
        time.sleep(max(0.0, began + tick * 0.1 - time.monotonic()))
    stream.wait_until_consumed(len(stream.sales))
    stats = stream.stats()
    print(f"live feed: p50 {stats['p50_ms']:.0f} ms, p99 {stats['p99_ms']:.0f} ms")
    assert stream.published() == recount(stream.sales)
    assert stats["records_in"] == len(stream.sales)
