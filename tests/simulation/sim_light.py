"""Stand-ins for the column work of the pipelines, so that a schedule costs milliseconds and not a second.

A batch of five records costs the real pipelines 5 to 20 ms, whatever it holds: the price of a Polars call,
fifty times. Here, what the real decode, normalise and rules say of each possible record is asked once per
process, and a batch looks it up. Everything that decides, remembers, commits or restores stays real:
runners, id state, decision table, stores, changelog, the warehouse's sink. Records travel pickled and not as
Avro. A share of the schedules runs with the real pipelines, and `test_simulation_stand_ins.py` holds these
to the same answers.
"""

from __future__ import annotations

import pickle
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import polars as pl

from gold_writer.warehouse.batch import Rows, Sales
from gold_writer.warehouse.pipeline import WarehousePipeline
from quality_service import outputs
from quality_service.entries import KEY, event_keys, from_hex
from quality_service.pipeline import RawTopic
from quality_service.rows import envelope, home, sales, undecodable
from quality_service.rules import Rules
from quality_service.state import IdState
from schemas.contract import load_contract
from schemas.decisions import Outcome
from schemas.identity import receipt_item_id
from streamkit.headers import header_column
from streamkit.ports import OutputBatch, Paused, RecordBatch, TopicPartition
from tests.simulation.sim_items import DECISIONS, ENRICHED, QUARANTINE, RAW, VALIDATED, items, schemas
from tests.simulation.sim_stores import PlainRows

NOW_MS = 1_700_000_000_000
SALE = ("invoice_no", "invoice_ts", "country", "stock_code", "quantity")


@dataclass(frozen=True, slots=True)
class Known:
    """What the real code says of one value; `reason` is None where it passes, `home` is by partition
    count."""

    event_id: str
    content_hash: str
    key: bytes
    hash: bytes
    reason: str | None
    readable: bool
    schema_id: int | None
    amount_micros: int | None
    sale: dict[str, Any]
    home: tuple[int, int, int]


@cache
def knowledge() -> dict[bytes | None, Known]:
    """Every possible value of the raw topic, through the real decode, normalise and rules."""
    values = [item.value for item in items()]
    n = len(values)
    batch = RecordBatch(
        RAW,
        np.zeros(n, np.int32),
        np.arange(n, dtype=np.int64),
        np.zeros(n, np.int64),
        [None] * n,
        values,
        [()] * n,
    )
    decoded, around = schemas().codecs[RAW].decode(values), envelope(batch, NOW_MS)
    rules = Rules(load_contract())
    rows = sales(decoded, around)
    judged = rules.judge(rows, NOW_MS)
    rows = rows.with_columns(
        rules.rejections(judged.reject)[0].alias("reason"), judged.amount_micros.alias("amount_micros")
    )
    homes = np.stack([home(rows, count) for count in (1, 2, 3)], axis=1).tolist()
    unread = undecodable(decoded.bad, batch, around).with_columns(reason=pl.lit("UNDECODABLE"))
    every = pl.concat([rows, unread], how="diagonal")
    keys, hashes = event_keys(every["event_id"]), from_hex(every["content_hash"])
    found: dict[bytes | None, Known] = {}
    for i, row in enumerate(every.iter_rows(named=True)):
        value, readable = values[row["position"]], i < rows.height
        found[value] = Known(
            event_id=row["event_id"],
            content_hash=row["content_hash"],
            key=keys[i],
            hash=hashes[i],
            reason=row["reason"],
            readable=readable,
            schema_id=int.from_bytes(value[1:5], "big") if value and value[0] == 0 else None,
            amount_micros=row["amount_micros"],
            sale={name: row[name] for name in SALE},
            home=tuple(homes[i]) if readable else (0, 0, 0),
        )
    return found


def packed(row: Any) -> bytes:
    return b"L" + pickle.dumps(row, protocol=5)


def unpacked(value: bytes | None) -> Any:
    assert value is not None
    return pickle.loads(value[1:])


class SchemaCache:
    """The schema ids that a process has fetched. Raises `Paused` for the partitions that need another one."""

    def __init__(self, available: Callable[[], bool]) -> None:
        self._available = available
        self._fetched: set[int] = set()

    def fetch(self, wanted: Sequence[tuple[TopicPartition, int | None]]) -> None:
        missing = [(tp, i) for tp, i in wanted if i is not None and i not in self._fetched]
        if missing and not self._available():
            raise Paused({tp for tp, _ in missing}, "schema registry is down")
        self._fetched.update(i for _, i in missing if i is not None and i < 1000)


class LightQuality:
    """Stands in for `QualityPipeline`."""

    def __init__(self, raw: RawTopic, state: IdState, available: Callable[[], bool]) -> None:
        self._raw = raw
        self._state = state
        self._schemas = SchemaCache(available)
        self._known = knowledge()

    def process(self, batch: RecordBatch) -> Sequence[OutputBatch]:
        known = [self._known[value] for value in batch.value]
        at = [(int(p), int(o)) for p, o in zip(batch.partition, batch.offset, strict=True)]
        self._schemas.fetch(
            [(TopicPartition(RAW, p), k.schema_id) for (p, _), k in zip(at, known, strict=True)]
        )
        home = self._raw.partitions - 1
        stray = [i for i, k in enumerate(known) if k.readable and k.home[home] != at[i][0]]
        outcome, resolves = self._decide([i for i in range(len(known)) if i not in set(stray)], known, at)
        outcome |= dict.fromkeys(stray, Outcome.REROUTED)
        return [
            self._accepted(batch, known, at, outcome),
            self._quarantined(batch, known, at, outcome, resolves),
            OutputBatch(
                RAW,
                [batch.value[i] for i in stray],
                [known[i].event_id.encode() for i in stray],
                outputs.rerouted_headers(batch, stray),
                [known[i].home[home] for i in stray],
            ),
            self._decisions(batch, known, at, outcome),
        ]

    def _decide(
        self, own: Sequence[int], known: Sequence[Known], at: Sequence[tuple[int, int]]
    ) -> tuple[dict[int, Outcome], dict[int, int]]:
        outcome: dict[int, Outcome] = {}
        resolves: dict[int, int] = {}
        for partition in sorted({at[i][0] for i in own}):
            rows = [i for i in own if at[i][0] == partition]
            decided = self._state.decide(
                partition,
                np.array([known[i].key for i in rows], dtype=KEY),
                np.array([known[i].hash for i in rows], dtype=KEY),
                np.array([at[i][1] for i in rows], dtype=np.int64),
                np.array([known[i].reason is None for i in rows], dtype=bool),
            )
            outcome.update(zip(rows, map(Outcome, decided.outcome.tolist()), strict=True))
            resolves.update(zip(rows, decided.resolves.tolist(), strict=True))
        return outcome, resolves

    def _accepted(
        self,
        batch: RecordBatch,
        known: Sequence[Known],
        at: Sequence[tuple[int, int]],
        outcome: dict[int, Outcome],
    ) -> OutputBatch:
        rows = [i for i in sorted(outcome) if outcome[i] in (Outcome.ACCEPTED, Outcome.ACCEPTED_RESOLVING)]
        values = [
            packed(
                {
                    "event_id": known[i].event_id,
                    "content_hash": known[i].content_hash,
                    "total_amount_micros": known[i].amount_micros,
                    **known[i].sale,
                    "raw_partition": at[i][0],
                    "raw_offset": at[i][1],
                }
            )
            for i in rows
        ]
        keys = [known[i].sale["invoice_no"].encode() for i in rows]
        return OutputBatch(VALIDATED, values, keys, [batch.headers[i] for i in rows])

    def _quarantined(
        self,
        batch: RecordBatch,
        known: Sequence[Known],
        at: Sequence[tuple[int, int]],
        outcome: dict[int, Outcome],
        resolves: dict[int, int],
    ) -> OutputBatch:
        traces = header_column(batch.headers, "traceparent")
        rows, order = [], []
        for state, outcomes in (
            ("OPEN", (Outcome.REJECTED, Outcome.CONFLICT)),
            ("RESOLVED", (Outcome.ACCEPTED_RESOLVING,)),
        ):
            for i in (i for i in sorted(outcome) if outcome[i] in outcomes):
                about = at[i][1] if state == "OPEN" else resolves[i]
                reason = "ID_CONFLICT" if outcome[i] == Outcome.CONFLICT else known[i].reason or "ACCEPTED"
                trace = traces[i]
                row = {
                    "item_id": receipt_item_id(self._raw.topic_id, at[i][0], about),
                    "state": state,
                    "stage": "quality",
                    "event_id": known[i].event_id,
                    "content_hash": known[i].content_hash,
                    "reason": reason,
                    "payload": batch.value[i] or b"",
                    "topic_id": self._raw.topic_id,
                    "partition": at[i][0],
                    "offset": at[i][1],
                    "amount_micros": known[i].amount_micros,
                    "traceparent": trace.decode() if trace else None,
                }
                rows.append(row)
                order.append(i)
        keys = [str(row["item_id"]).encode() for row in rows]
        return OutputBatch(QUARANTINE, [packed(row) for row in rows], keys, [batch.headers[i] for i in order])

    def _decisions(
        self,
        batch: RecordBatch,
        known: Sequence[Known],
        at: Sequence[tuple[int, int]],
        outcome: dict[int, Outcome],
    ) -> OutputBatch:
        values, partitions = [], sorted({p for p, _ in at})
        for partition in partitions:
            own = sorted((at[i][1], i) for i in outcome if at[i][0] == partition)
            rows = [
                {
                    "offset": offset,
                    "event_id": known[i].event_id,
                    "content_hash": known[i].content_hash,
                    "outcome": int(outcome[i]),
                }
                for offset, i in own
            ]
            row = {
                "topic_id": self._raw.topic_id,
                "partition": partition,
                "begin_offset": own[0][0],
                "end_offset": own[-1][0] + 1,
                "rows": rows,
            }
            values.append(packed(row))
        return OutputBatch(DECISIONS, values, [None] * len(values), None, partitions)


class LightEnrich:
    """Stands in for `EnrichPipeline`."""

    def __init__(self, available: Callable[[], bool]) -> None:
        self._schemas = SchemaCache(available)

    def process(self, batch: RecordBatch) -> Sequence[OutputBatch]:
        self._schemas.fetch([(tp, 1) for tp in batch.next_offsets()])
        rows = [{**row, "revision": 0} for row in _plain(batch, "validated")]
        keys = [row["invoice_no"].encode() for row in rows]
        return [OutputBatch(ENRICHED, [packed(row) for row in rows], keys, batch.headers)]


class LightWarehouse(WarehousePipeline):
    """`WarehousePipeline` without Avro and CSV: positions and what is left out as stored stay real."""

    def __init__(self) -> None:
        super().__init__(sales=schemas().codecs[ENRICHED], quarantine=schemas().codecs[QUARANTINE])

    def stage_sales(self, batch: RecordBatch) -> Sales:
        rows = _plain(batch, "enriched")
        return PlainRows(b"", len(rows), (), rows)

    def stage_quarantine(self, batch: RecordBatch) -> Rows:
        rows = _plain(batch, "quarantine")
        return PlainRows(b"", len(rows), (), rows)


def _plain(batch: RecordBatch, name: str) -> tuple[dict[str, Any], ...]:
    return tuple(
        {**unpacked(value), f"{name}_partition": int(p), f"{name}_offset": int(o)}
        for value, p, o in zip(batch.value, batch.partition, batch.offset, strict=True)
    )
