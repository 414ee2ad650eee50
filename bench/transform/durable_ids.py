"""Quality's durable id store as the deduplication of the benchmark's stage.

The store decides by id and content hash, so here the content hash is computed too: work that the peers, who
look up an id alone, are spared.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np
import polars as pl

from quality_service import outputs
from quality_service.entries import event_keys, from_hex
from quality_service.kafka_changelog import KafkaChangelog
from quality_service.lmdb_store import LmdbStores
from quality_service.state import IdState
from schemas.catalogue import load_topics
from schemas.codec import Codec
from schemas.decisions import Outcome
from schemas.fakes import InMemoryRegistry
from schemas.identity import content_hash_expr
from streamkit.clock import Clock
from streamkit.kafka import KafkaAdmin
from streamkit.ports import OutputBatch, RecordBatch

if TYPE_CHECKING:
    from bench.peers.protocol import Config

_MAX_BYTES: Final = 64 << 30
_ACCEPTED: Final = (Outcome.ACCEPTED, Outcome.ACCEPTED_RESOLVING)


class DurableIds:
    """`state` is the participant that commits with the transaction."""

    def __init__(self, config: Config, clock: Clock) -> None:
        schema = load_topics()["sales.decisions.v1"].schema_text
        registry = InMemoryRegistry()
        self._schema_id = registry.register("decisions", schema)
        self._codec = Codec(schema, registry)
        self._topic = config.topic_decisions
        self._clock = clock
        admin = KafkaAdmin(config.bootstrap)
        self._topic_id = admin.topic_ids([config.topic_in])[config.topic_in]
        admin.close()
        self.state = IdState(
            config.topic_in,
            self._topic_id,
            LmdbStores(Path(config.state) / "ids", max_bytes=_MAX_BYTES),
            KafkaChangelog(config.bootstrap, config.topic_decisions, self._codec),
            clock,
        )

    def decide(
        self, rows: pl.DataFrame, valid: pl.Series, batch: RecordBatch
    ) -> tuple[pl.DataFrame, OutputBatch]:
        """The accepted rows, and the decisions on all of them as records of the changelog."""
        rows = rows.with_columns(
            content_hash_expr().alias("content_hash"),
            pl.Series("partition", batch.partition),
            pl.Series("offset", batch.offset),
            pl.Series("ingest_ts", batch.timestamp_ms),
            reason=pl.lit(None, pl.String),
            load_id=pl.lit(None, pl.String),
            amount_micros=pl.lit(None, pl.Int64),
        )
        keys, hashes = event_keys(rows["event_id"]), from_hex(rows["content_hash"])
        outcome = np.empty(rows.height, dtype=np.uint8)
        resolves = np.empty(rows.height, dtype=np.int64)
        passed = valid.to_numpy()
        for partition in np.unique(batch.partition).tolist():
            own = np.flatnonzero(batch.partition == partition)
            decided = self.state.decide(partition, keys[own], hashes[own], batch.offset[own], passed[own])
            outcome[own], resolves[own] = decided.outcome, decided.resolves
        rows = rows.with_columns(
            pl.Series("outcome", outcome, dtype=pl.UInt8), pl.Series("resolves", resolves, dtype=pl.Int64)
        )
        return rows.filter(pl.col("outcome").is_in(_ACCEPTED)), self._changelog(rows)

    def _changelog(self, rows: pl.DataFrame) -> OutputBatch:
        frame = outputs.decisions(rows, self._topic_id, self._clock.now_ms())
        values = self._codec.encode(frame, self._schema_id)
        return OutputBatch(self._topic, values, [None] * len(values), partition=frame["partition"].to_list())
