"""A quality service in memory: real codecs, rules, store and runner on the broker in memory."""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from functools import cache
from pathlib import Path
from typing import Any

import polars as pl

from quality_service.changelog import DecidedBatch
from quality_service.guard import Guard
from quality_service.memory_store import MemoryStores
from quality_service.metrics import QualityMetrics
from quality_service.pipeline import QualityPipeline, RawTopic, Writer
from quality_service.rules import Rules
from quality_service.state import IdState
from quality_service.store import Stores
from schemas.catalogue import load_topics
from schemas.codec import Codec
from schemas.contract import Contract, load_contract
from schemas.decisions import unpack
from schemas.fakes import InMemoryRegistry
from schemas.identity import event_id, murmur2_partition
from streamkit.clock import FakeClock
from streamkit.limits import Limits
from streamkit.memory import MemoryBroker, MemoryConsumer, MemoryProducer, MemoryTransactionalProducer
from streamkit.ports import Headers, NewTopic, OutputBatch
from streamkit.runner import Runner
from streamkit.stats import StageStats

SAMPLES = Path(__file__).parents[3] / "samples" / "online-retail"
RAW, VALIDATED = "sales.raw.v1", "sales.validated.v1"
QUARANTINE, DECISIONS = "sales.quarantine.v1", "sales.decisions.v1"
PARTITIONS = 3
NOW_MS = 1_700_000_000_000


def sale(**given: Any) -> dict[str, Any]:
    """A valid raw sale, with the fields given in place of its own."""
    fields: dict[str, Any] = {
        "source_system": "till-7",
        "invoice_no": "536365",
        "line_no": 1,
        "stock_code": "85123A",
        "description": "WHITE HANGING HEART T-LIGHT HOLDER",
        "quantity": 6,
        "unit_price_micros": 2_550_000,
        "currency": "GBP",
        "customer_id": "17850",
        "country": "United Kingdom",
        "invoice_ts": datetime(2010, 12, 1, 8, 26),
        "attributes": {},
        **given,
    }
    own = event_id(fields["source_system"], fields["invoice_no"], fields["line_no"])
    return {"event_id": own, **fields}


def sales_of_csv(path: Path, source: str = "online-retail") -> list[dict[str, Any]]:
    """The lines of a day of Online Retail as raw sales, numbered within their invoice."""
    ordinals: Counter[str] = Counter()
    rows = []
    with path.open(encoding="utf-8", newline="") as file:
        for line in csv.DictReader(file):
            ordinals[line["InvoiceNo"]] += 1
            rows.append(
                sale(
                    source_system=source,
                    invoice_no=line["InvoiceNo"],
                    line_no=ordinals[line["InvoiceNo"]],
                    stock_code=line["StockCode"],
                    description=line["Description"] or None,
                    quantity=int(line["Quantity"]),
                    unit_price_micros=int(Decimal(line["UnitPrice"]) * 1_000_000),
                    customer_id=line["CustomerID"] or None,
                    country=line["Country"],
                    invoice_ts=datetime.fromisoformat(line["InvoiceDate"]),
                )
            )
    return rows


default_contract = cache(load_contract)
catalogue = cache(load_topics)


@dataclass
class Bench:
    """Send raw records, `drain`, and look at the topics."""

    contract: Contract = field(default_factory=default_contract)
    stores: Stores = field(default_factory=MemoryStores)
    max_records: int = 10_000

    def __post_init__(self) -> None:
        self.clock = FakeClock(NOW_MS)
        self.broker = MemoryBroker(clock=self.clock)
        self.registry = InMemoryRegistry()
        self.topics = catalogue()
        self.codecs: dict[str, Codec] = {}
        self.ids: dict[str, int] = {}
        for name in (RAW, VALIDATED, QUARANTINE, DECISIONS):
            topic = self.topics[name]
            self.ids[name] = self.registry.register(topic.subject, topic.schema_text)
            self.codecs[name] = Codec(topic.schema_text, self.registry)
            self.broker.create_topic(NewTopic(name, PARTITIONS))
        self.raw = RawTopic(RAW, self.broker.topic_id(RAW), PARTITIONS)
        self.producer = MemoryProducer(self.broker)
        self.restart()

    def restart(self) -> None:
        """A new quality process on the same broker and stores."""
        self._joined = False
        self.state = IdState(RAW, self.raw.topic_id, self.stores, BenchChangelog(self), self.clock)
        self.stats = StageStats("quality", self.clock)
        self.metrics = QualityMetrics(self.stats.registry, self.state)
        self.guard = self.guarded()
        self.pipeline = QualityPipeline(
            raw=self.raw,
            reader=self.codecs[RAW],
            validated=self._writer(VALIDATED),
            quarantine=self._writer(QUARANTINE),
            decisions=self._writer(DECISIONS),
            rules=Rules(self.contract),
            state=self.state,
            clock=self.clock,
            observe=self.metrics.observe,
            check=self.guard.check,
        )
        self.runner = Runner(
            MemoryConsumer(self.broker, "tillstream.quality"),
            MemoryTransactionalProducer(self.broker, "tillstream.quality.0"),
            self.pipeline,
            topics=[RAW],
            stats=self.stats,
            clock=self.clock,
            participants=[self.state, self.metrics, self.guard],
            limits=Limits(max_records=self.max_records, poll_timeout_s=0.0, linger_s=0.0),
        )

    def guarded(self) -> Guard:
        """One for which each process is the first."""
        return Guard("any", Forgetful(), self.clock, self.stats.registry)

    def _writer(self, topic: str) -> Writer:
        return Writer(topic, self.codecs[topic], self.ids[topic])

    def encode(self, *sales: dict[str, Any]) -> list[bytes]:
        codec = self.codecs[RAW]
        return codec.encode(pl.DataFrame(list(sales), schema=codec.columns), self.ids[RAW])

    def send(
        self,
        values: Sequence[bytes | None],
        *,
        event_ids: Sequence[str] | None = None,
        partition: int | None = None,
        headers: Headers = (),
    ) -> None:
        """To the partition of `event_ids`, or to one and the same."""
        keys = [e.encode() for e in event_ids] if event_ids else [b"any"] * len(values)
        places = murmur2_partition(keys, PARTITIONS).tolist()
        if partition is not None:
            places = [partition] * len(values)
        batch = OutputBatch(RAW, list(values), keys, [headers] * len(values), places)
        self.producer.produce([batch], timeout_s=1.0)

    def sell(self, *sales: dict[str, Any], headers: Headers = ()) -> None:
        """Send sales to the partitions of their event ids."""
        ids = [s["event_id"] or event_id(s["source_system"], s["invoice_no"], s["line_no"]) for s in sales]
        self.send(self.encode(*sales), event_ids=ids, headers=headers)

    def drain(self) -> None:
        """Run until nothing is left to read."""
        if not self._joined:
            self.runner.start()
            self._joined = True
        idle = 0
        while idle < 2 * PARTITIONS:
            idle = 0 if self.runner.step() else idle + 1

    def read(self, topic: str) -> pl.DataFrame:
        """Committed records, decoded."""
        values = [record.value for record in self.broker.committed_records(topic)]
        decoded = self.codecs[topic].decode(values)
        assert not decoded.bad, decoded.bad
        return decoded.frame

    def decided(self) -> pl.DataFrame:
        """One row per raw record: the decisions with their `partition`."""
        batches = self.read(DECISIONS).iter_rows(named=True)
        frames = [unpack(row["payload"]).with_columns(partition=pl.lit(row["partition"])) for row in batches]
        return pl.concat(frames) if frames else pl.DataFrame()


class Forgetful:
    """A guard's memory that does not outlast the process."""

    def load(self) -> None:
        return None

    def save(self, deployment: Mapping[str, Any]) -> None:
        return None


class BenchChangelog:
    def __init__(self, bench: Bench) -> None:
        self._bench = bench

    def read(self, topic_id: str, partition: int, after: int) -> Iterator[DecidedBatch]:
        for row in self._bench.read(DECISIONS).iter_rows(named=True):
            if (row["topic_id"], row["partition"]) == (topic_id, partition) and row["end_offset"] > after:
                yield DecidedBatch(row["begin_offset"], row["end_offset"], unpack(row["payload"]))
