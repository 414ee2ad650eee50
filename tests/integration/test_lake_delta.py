"""The lake writer as a process: from Kafka to Delta, read without a JVM; restarts; refusals."""

from __future__ import annotations

import io
import json
import os
import shutil
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
import uuid
from collections.abc import Callable, Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any, TypeVar

import fastavro
import polars as pl
import pytest
from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient, NewTopic
from deltalake import DeltaTable

from deploy.local.layout import CHECKOUT
from deploy.local.ports import free_base
from deploy.local.testing import Servers, tools_folder
from gold_writer.lake.avro import frame_prefix
from gold_writer.lake.warmup import empty_value
from gold_writer.maintenance import files
from gold_writer.maintenance.upkeep import UPKEEP
from schemas.catalogue import load_topics
from schemas.registry import RegistryClient

T = TypeVar("T")
TOPICS = ("sales.raw.v1", "sales.enriched.v1", "sales.quarantine.v1")
# What this process writes itself; the other tables are maintenance's own.
STREAMED = [upkeep for upkeep in UPKEEP if not upkeep.owned]
NOW_MS = 1_767_225_600_000  # 2026-01-01


def until(condition: Callable[[], T | None], seconds: float, what: str) -> T:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if (found := condition()) is not None:
            return found
        time.sleep(0.2)
    raise AssertionError(f"not within {seconds:.0f} s: {what}")


class World:
    """Topics of its own, and a lake writer on them."""

    def __init__(self, servers: Servers, folder: Path) -> None:
        self.prefix = f"lake-{uuid.uuid4().hex[:8]}."
        self.lake, self.state = folder / "lake", folder / "state"
        self.port = free_base(start=33000, stop=33900).base
        self.process: subprocess.Popen[bytes] | None = None
        self.log = folder / "lake.log"
        self._servers = servers
        self._registry = RegistryClient(servers.registry)
        self._catalogue = load_topics()
        admin = AdminClient({"bootstrap.servers": servers.kafka})
        made = admin.create_topics([NewTopic(self.prefix + name, 3, 1) for name in TOPICS])
        for future in made.values():
            future.result(15)
        self._ids = {name: self.register(name, self._catalogue[name].schema_text) for name in TOPICS}
        self._producer = Producer(
            {"bootstrap.servers": servers.kafka, "transactional.id": f"{self.prefix}feed", "linger.ms": 5}
        )
        self._producer.init_transactions(15)

    def register(self, topic: str, schema: str) -> int:
        return self._registry.register(f"{self.prefix}{topic}-value", schema)

    def send(self, topic: str, records: list[dict[str, Any]], *, commit: bool = True) -> None:
        schema = json.loads(self._catalogue[topic].schema_text)
        self.send_as(topic, self._ids[topic], schema, records, commit=commit)

    def send_as(
        self, topic: str, schema_id: int, schema: Any, records: list[dict[str, Any]], *, commit: bool = True
    ) -> None:
        parsed = fastavro.parse_schema(schema)
        self._producer.begin_transaction()
        for record in records:
            body = io.BytesIO(frame_prefix(schema_id))
            body.seek(0, io.SEEK_END)
            fastavro.schemaless_writer(body, parsed, {**empty_value(schema), **record})
            headers: list[tuple[str, str | bytes | None]] = [("ce_source", record.get("source_system", ""))]
            key = str(record.get("event_id", ""))
            self._producer.produce(self.prefix + topic, body.getvalue(), key, headers=headers)
        if commit:
            self._producer.commit_transaction(15)
        else:
            self._producer.flush(15)
            self._producer.abort_transaction(15)

    def command(self, *arguments: str) -> list[str]:
        return [sys.executable, "-m", "gold_writer.lake", *arguments]

    def env(self) -> dict[str, str]:
        jars = os.environ.get("TILLSTREAM_SPARK_JARS") or str(tools_folder() / "spark-jars")
        return {
            **os.environ,
            "PYTHONPATH": str(CHECKOUT),
            "TILLSTREAM_KAFKA": self._servers.kafka,
            "TILLSTREAM_REGISTRY": self._servers.registry,
            "TILLSTREAM_LAKE": str(self.lake),
            "TILLSTREAM_STATE": str(self.state),
            "TILLSTREAM_HTTP_PORT": str(self.port),
            "TILLSTREAM_SPARK_JARS": jars,
            "TILLSTREAM_RAW_TOPIC": self.prefix + "sales.raw.v1",
            "TILLSTREAM_ENRICHED_TOPIC": self.prefix + "sales.enriched.v1",
            "TILLSTREAM_QUARANTINE_TOPIC": self.prefix + "sales.quarantine.v1",
            "TILLSTREAM_WARMUP_TOPIC": self.prefix + "warm-up",
        }

    def start(self) -> subprocess.Popen[bytes]:
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(self.command(), env=self.env(), stderr=log)
        return self.process

    def start_ready(self) -> subprocess.Popen[bytes]:
        process = self.start()
        until(lambda: self._ready(process), 240, "the lake writer is ready")
        return process

    def _ready(self, process: subprocess.Popen[bytes]) -> bool | None:
        assert process.poll() is None, self.log.read_text()[-3000:]
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/ready", timeout=2) as answer:
                return bool(answer.status == 200)
        except OSError:
            return None

    def metric(self, sample: str) -> float:
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/metrics", timeout=2) as answer:
            text = answer.read().decode()
        return float(next(line for line in text.splitlines() if line.startswith(sample)).split()[-1])

    def stop(self, signal_: int = signal.SIGTERM) -> int:
        assert self.process is not None
        self.process.send_signal(signal_)
        return self.process.wait(15)

    def rows(self, table: str) -> pl.DataFrame:
        return pl.read_delta(str(self.lake / table))

    def wait_for_ids(self, table: str, ids: set[str], column: str = "event_id") -> pl.DataFrame:
        def all_there() -> pl.DataFrame | None:
            rows = self.rows(table)
            return rows if ids <= set(rows[column].to_list()) else None

        return until(all_there, 60, f"{len(ids)} ids in {table}")


@pytest.fixture
def world(stack: Servers, tmp_path: Path) -> Iterator[World]:
    made = World(stack, tmp_path)
    yield made
    if made.process is not None and made.process.poll() is None:
        made.process.kill()
        made.process.wait()


def sales(start: int, count: int, **fields: Any) -> list[dict[str, Any]]:
    return [
        {
            "event_id": f"event-{n}",
            "source_system": "shop",
            "invoice_no": str(n // 3),
            "line_no": n % 3 + 1,
            "stock_code": "85123A",
            "quantity": 3,
            "unit_price_micros": 2_550_001,
            "total_amount_micros": 7_650_003,
            "currency": "GBP",
            "region": "Europe" if n % 2 else None,
            "invoice_ts": NOW_MS - n % 2 * 86_400_000,
            "ingest_ts": NOW_MS,
            **fields,
        }
        for n in range(start, start + count)
    ]


def ids(start: int, count: int) -> set[str]:
    return {f"event-{n}" for n in range(start, start + count)}


def test_records_are_in_delta_once_through_kills_restarts_and_a_rebuild(world: World) -> None:
    # Before the first start, an aborted transaction among them.
    world.send("sales.enriched.v1", sales(0, 300))
    world.send("sales.enriched.v1", sales(9000, 5), commit=False)
    world.send("sales.raw.v1", [{"event_id": f"event-{n}", "source_system": "Café / 1"} for n in range(10)])
    world.send("sales.raw.v1", [{"event_id": "event-10", "source_system": ""}])
    beat = "tillstream.heartbeat/1767225600000"
    world.send("sales.enriched.v1", sales(0, 1, event_id=beat))
    world.send("sales.raw.v1", [{"event_id": beat, "source_system": "tillstream.heartbeat"}])
    world.send("sales.quarantine.v1", [{"item_id": "item-1", "payload": b"\x00\xff", "amount_micros": -1}])
    process = world.start_ready()
    jvm = only_child(process.pid)

    fact = world.wait_for_ids("gold/fact_sales", ids(0, 300))
    row = fact.filter(pl.col("event_id") == "event-1").row(0, named=True)
    assert row["unit_price"] == Decimal("2.550001")
    assert row["total_amount"] == Decimal("7.650003")
    assert row["amount_gbp"] is None
    assert row["invoice_ts"].isoformat() == "2025-12-31T00:00:00+00:00"
    check_bronze_and_quarantine(world)
    beats = 'tillstream_heartbeat_seconds_count{stage="lake"}'
    until(lambda: True if world.metric(beats) == 1 else None, 10, "the heartbeat is measured")

    # A later revision is kept in silver and stays out of the fact table.
    world.send("sales.enriched.v1", sales(7, 1, revision=1))
    until(lambda: True if len(world.rows("silver/sales")) == 301 else None, 60, "the revision in silver")

    files_are_rewritten_while_records_arrive(world)

    # Killed while records arrive: the JVM goes with its parent, and nothing is lost or written twice.
    world.send("sales.enriched.v1", sales(400, 1900))
    process.kill()
    process.wait()
    until(lambda: True if not alive(jvm) else None, 10, "the JVM ends with its parent")
    world.start_ready()
    world.wait_for_ids("gold/fact_sales", ids(0, 2300))
    world.wait_for_ids("silver/sales", ids(0, 2300))

    began = time.monotonic()
    assert world.stop() == 0
    assert time.monotonic() - began < 10

    refuses_without_checkpoint_until_rebuilt(world)

    check_once(world, "gold/fact_sales", ids(0, 2310), 2310)
    check_once(world, "silver/sales", ids(0, 2310), 2311)
    assert set(world.rows("silver/sales")["event_id"].to_list()) == ids(0, 2310)


def check_bronze_and_quarantine(world: World) -> None:
    raw = world.wait_for_ids("bronze/sales", {"Café / 1", "unknown"}, "source_system")
    assert sorted(raw["source_system"].to_list()) == ["Café / 1"] * 10 + ["unknown"]
    assert set(raw["key"].to_list()) == {f"event-{n}".encode() for n in range(11)}
    assert raw["headers"][0].to_list()[0]["key"] == "ce_source"
    assert raw["topic_id"].n_unique() == 1
    item = world.wait_for_ids("bronze/quarantine", {"item-1"}, "item_id").row(0, named=True)
    assert item["payload"] == b"\x00\xff"
    assert item["amount"] == Decimal("-0.000001")


def files_are_rewritten_while_records_arrive(world: World) -> None:
    """Maintenance commits between Spark's own commits; Spark goes on, and no row is lost or doubled."""
    rewritten: dict[str, int] = {}
    for start in range(300, 400, 10):
        world.send("sales.enriched.v1", sales(start, 10))
        world.send("sales.raw.v1", [{"event_id": f"event-{start}", "source_system": "Café / 1"}])
        for upkeep in STREAMED:
            path = upkeep.path(world.lake)
            done = files.compact(path, upkeep, target_bytes=1 << 25, min_files=2)
            ordered = files.z_order(path, upkeep, 1 << 25, 1 << 26)
            rewritten[upkeep.table] = rewritten.get(upkeep.table, 0) + done.files_in + ordered.files_in
            files.vacuum(path, 24, full=True)
        time.sleep(0.5)
    world.wait_for_ids("gold/fact_sales", ids(0, 400))
    world.wait_for_ids("silver/sales", ids(0, 400))
    assert rewritten["gold/fact_sales"] >= 4, rewritten
    assert rewritten["silver/sales"] >= 4, rewritten
    assert rewritten["bronze/sales"] >= 2, rewritten
    check_once(world, "gold/fact_sales", ids(0, 400), 400)
    check_once(world, "silver/sales", ids(0, 400), 401)
    until(lambda: True if len(world.rows("bronze/sales")) == 21 else None, 30, "all raw records in bronze")
    raw = world.rows("bronze/sales")
    assert not raw.select("partition", "offset").is_duplicated().any()
    assert set(raw["source_system"].to_list()) == {"Café / 1", "unknown"}


def refuses_without_checkpoint_until_rebuilt(world: World) -> None:
    shutil.rmtree(world.state / "checkpoints" / "fact")
    world.send("sales.enriched.v1", sales(2300, 10))
    refused = subprocess.run(
        world.command(), env=world.env(), capture_output=True, text=True, timeout=60, check=False
    )
    assert refused.returncode == 2
    assert "tillstream rebuild lake" in refused.stderr
    assert DeltaTable(str(world.lake / "gold/fact_sales")).to_pyarrow_table().num_rows == 2300
    subprocess.run(world.command("rebuild"), env=world.env(), check=True, timeout=60)
    for upkeep in STREAMED:  # Maintenance does not wait for the writer.
        files.compact(upkeep.path(world.lake), upkeep, target_bytes=1 << 25, min_files=2)
    world.start_ready()
    world.wait_for_ids("gold/fact_sales", ids(2300, 10))
    world.wait_for_ids("silver/sales", ids(2300, 10))
    assert world.stop() == 0


def check_once(world: World, table: str, expected: set[str], rows: int) -> None:
    found = world.rows(table)
    assert set(found["event_id"].to_list()) == expected
    assert len(found) == rows
    assert not found.select("partition", "offset").is_duplicated().any()


def test_a_schema_id_registered_later_ends_the_process_and_the_next_one_reads_it(world: World) -> None:
    process = world.start_ready()
    schema = json.loads(load_topics()["sales.enriched.v1"].schema_text)
    schema["fields"].append({"name": "note", "type": ["null", "string"], "default": None})
    schema_id = world.register("sales.enriched.v1", json.dumps(schema))
    world.send("sales.enriched.v1", sales(0, 3))
    world.send_as("sales.enriched.v1", schema_id, schema, sales(3, 3, note="new"))

    assert process.wait(60) == 1
    failure = next(
        line
        for line in map(json.loads, json_lines(world.log))
        if line.get("level") == "error" and "exception" in line
    )
    assert f"begins with {frame_prefix(schema_id).hex().upper()}" in failure["exception"]

    world.start_ready()
    rows = world.wait_for_ids("gold/fact_sales", ids(0, 6))
    assert len(rows) == 6
    assert world.stop() == 0


def json_lines(log: Path) -> list[str]:
    return [line for line in log.read_text().splitlines() if line.startswith("{")]


def only_child(pid: int) -> int:
    (child,) = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return int(child)


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False
