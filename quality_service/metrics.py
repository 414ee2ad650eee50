"""The metrics of quality, beyond those that every stage has."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import polars as pl
from prometheus_client import CollectorRegistry, Counter, Gauge

from quality_service.state import IdState
from schemas.decisions import Outcome
from streamkit.ports import TopicPartition


class QualityMetrics:
    """A `streamkit.ports.Participant`, so that it counts what was committed, once."""

    def __init__(self, registry: CollectorRegistry, state: IdState) -> None:
        # Raw records by what became of them; REROUTED ones are counted by their new record.
        self._outcomes = Counter(
            "tillstream_quality_outcomes", "Raw records decided.", ["outcome"], registry=registry
        )
        # Quarantined records by the first rule that applied.
        self._reasons = Counter(
            "tillstream_quality_rejections", "Records quarantined.", ["reason"], registry=registry
        )
        # Accepted records by each rule that warned.
        self._warnings = Counter(
            "tillstream_quality_warnings", "Accepted records with a warning.", ["rule"], registry=registry
        )
        # Records passed on to the partition of their event id.
        self._rerouted = Counter(
            "tillstream_quality_rerouted", "Records on a wrong partition.", registry=registry
        )
        # What the id store holds, for the assigned partitions.
        self._ids = Gauge("tillstream_quality_ids", "Event ids remembered.", registry=registry)
        self._bytes = Gauge("tillstream_quality_id_bytes", "Bytes of the id store in use.", registry=registry)
        self._state = state
        self._held: list[tuple[Counter, int]] = []

    def observe(self, rows: pl.DataFrame, rerouted: int) -> None:
        """A decided batch: its rows have `outcome`, `reason`, and `warnings` (null where undecodable)."""
        self._held = [(self._rerouted, rerouted)]
        for outcome, count in _counts(rows["outcome"]):
            self._held.append((self._outcomes.labels(Outcome(outcome).name), count))
        for reason, count in _counts(rows["reason"]):
            self._held.append((self._reasons.labels(reason), count))
        accepted = pl.col("outcome").is_in([Outcome.ACCEPTED, Outcome.ACCEPTED_RESOLVING])
        warned = rows.filter(accepted & (pl.col("warnings").list.len() > 0))
        for rule, count in _counts(warned["warnings"].explode()):
            self._held.append((self._warnings.labels(rule), count))

    def assigned(self, offsets: Mapping[TopicPartition, int | None]) -> None:
        self._measure()

    def revoked(self, partitions: Sequence[TopicPartition]) -> None:
        self._measure()

    def before_commit(self, next_offsets: Mapping[TopicPartition, int]) -> None:
        return None

    def after_commit(self, next_offsets: Mapping[TopicPartition, int]) -> None:
        for counter, count in self._held:
            counter.inc(count)
        self._held = []
        self._measure()

    def after_abort(self) -> None:
        self._held = []

    def _measure(self) -> None:
        ids, size = self._state.sizes()
        self._ids.set(ids)
        self._bytes.set(size)


def _counts(values: pl.Series) -> list[tuple[Any, int]]:
    counted = values.drop_nulls().value_counts(name="n")
    return list(counted.iter_rows())
