"""The aggregates process of the simulation, and the recount that its totals must equal."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from gold_writer.aggregates.changelog import Chunk
from gold_writer.aggregates.state import AggregateState
from gold_writer.aggregates.totals import WIDTH
from streamkit.memory import MemoryBroker
from streamkit.ports import OutputBatch, RecordBatch, TopicPartition
from tests.simulation.sim_items import AGGREGATES, ENRICHED
from tests.simulation.sim_light import SchemaCache, packed, unpacked
from tests.simulation.sim_machine import settle
from tests.simulation.sim_wire import Row, decode

if TYPE_CHECKING:
    from tests.simulation.sim_evidence import Evidence

CHUNK = 3
VALUES = ("lines", "units", "gross_revenue_micros", "returns_micros")
Sums = dict[str, list[int]]
"""Key of a window -> lines, units, gross and returns."""


class TotalsChangelog:
    """The aggregates topic read back, a few records at a time."""

    def __init__(self, broker: MemoryBroker) -> None:
        self._broker = broker

    def read(self, partition: int, offset: int) -> Iterator[Chunk]:
        settle(self._broker)
        log = self._broker.log(TopicPartition(AGGREGATES, partition))
        while records := log.read(offset, CHUNK):
            offset = records[-1].offset + 1
            rows = pl.DataFrame(decode(AGGREGATES, records), infer_schema_length=None)
            yield Chunk([record.key or b"" for record in records], rows, offset)


class LightAggregates:
    """Stands in for `AggregatesPipeline`; the state is the real one."""

    def __init__(self, state: AggregateState, available: Callable[[], bool]) -> None:
        self._state = state
        self._schemas = SchemaCache(available)

    def process(self, batch: RecordBatch) -> Sequence[OutputBatch]:
        ends = batch.next_offsets()
        self._schemas.fetch([(tp, 1) for tp in ends])
        values: list[bytes] = []
        keys: list[bytes] = []
        shards: list[int] = []
        for tp in sorted(ends):
            sums: Sums = {}
            for value in (v for v, p in zip(batch.value, batch.partition, strict=True) if p == tp.partition):
                add(sums, tp.partition, unpacked(value))
            own = in_order(sums)
            changes = np.zeros((len(own), WIDTH), dtype=np.int64)
            changes[:, [0, 1, 2, 4]] = [sums[key] for key in own]
            totals = self._state.advance(tp.partition, [key.encode() for key in own], changes)
            values += [
                _record(key, row, tp.partition, ends[tp]) for key, row in zip(own, totals, strict=True)
            ]
            keys += [key.encode() for key in own]
            shards += [tp.partition] * len(own)
        return [OutputBatch(AGGREGATES, values, keys, None, shards)]


def windows(shard: int, sale: Row) -> list[str]:
    """The keys of a sale's windows. `sale` has `invoice_ts`, `country` and `stock_code`."""
    at: datetime = sale["invoice_ts"]
    return [
        f"minute_country|{at:%Y-%m-%dT%H:%M:00Z}|{sale['country'] or ''}|{shard}",
        f"day_product|{at:%Y-%m-%dT00:00:00Z}|{sale['stock_code']}|{shard}",
        f"total|1970-01-01T00:00:00Z||{shard}",
    ]


def add(sums: Sums, shard: int, sale: Row) -> None:
    """`sale` also has `quantity`, `total_amount_micros` (GBP) and `invoice_no`."""
    amount, returned = sale["total_amount_micros"], sale["invoice_no"].startswith("C")
    for key in windows(shard, sale):
        row = sums.setdefault(key, [0, 0, 0, 0])
        change = (1, sale["quantity"], 0 if returned else amount, amount if returned else 0)
        row[:] = [a + b for a, b in zip(row, change, strict=True)]


def in_order(sums: Sums) -> list[str]:
    """The total last: it closes a batch."""
    return sorted(sums, key=lambda key: key.startswith("total|"))


def recount(found: Evidence) -> dict[tuple[int, str], tuple[int, ...]]:
    """Of what the model accepted, as the items were made, by the shard in which each lies."""
    by_shard: dict[int, Sums] = defaultdict(dict)
    for row, (partition, _) in zip(found.rows[ENRICHED], found.placed[ENRICHED], strict=True):
        item = found.expected.fates[row["raw_partition"], row["raw_offset"]].record.item
        add(by_shard[partition], partition, item.sale)
    return {(shard, key): tuple(row) for shard, sums in by_shard.items() for key, row in sums.items()}


def newest(found: Evidence) -> dict[tuple[int, str], tuple[int, ...]]:
    """The last committed record of every key, by the partition in which it lies."""
    pairs = zip(found.rows[AGGREGATES], found.placed[AGGREGATES], strict=True)
    return {
        (partition, (record.key or b"").decode()): tuple(int(row[name]) for name in VALUES)
        for row, (partition, record) in pairs
    }


def _record(key: str, row: Any, shard: int, input_offset: int) -> bytes:
    grain = key.partition("|")[0]
    names = (
        "lines",
        "units",
        "gross_revenue_micros",
        "gross_revenue_carry",
        "returns_micros",
        "returns_carry",
    )
    values = dict(zip(names, row.tolist(), strict=True))
    return packed({"grain": grain, "shard": shard, "input_offset": input_offset, **values})
