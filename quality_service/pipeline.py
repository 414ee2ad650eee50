"""The way of a sale through quality: raw in; validated, quarantine and decisions out.

    decode -> normalise -> route -> judge -> decide -> encode

Every raw record leaves with exactly one outcome, in the decisions record of its partition and batch.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Final

import numpy as np
import polars as pl
from numpy.typing import NDArray

from quality_service import outputs, replays
from quality_service.entries import event_keys, from_hex
from quality_service.rows import envelope, home, is_stray, sales, undecodable
from quality_service.rules import Judged, Rules
from quality_service.state import IdState
from schemas.codec import Codec, Decoded
from schemas.decisions import Outcome
from schemas.registry import RegistryUnavailable
from streamkit.clock import Clock
from streamkit.columns import BinaryColumn, take
from streamkit.ports import OutputBatch, Paused, RecordBatch, TopicPartition

CONFLICT: Final = "ID_CONFLICT"
UNDECODABLE: Final = "UNDECODABLE"
_ACCEPTED: Final = (Outcome.ACCEPTED, Outcome.ACCEPTED_RESOLVING)
_QUARANTINED: Final = (Outcome.REJECTED, Outcome.CONFLICT)


@dataclass(frozen=True, slots=True)
class Writer:
    """Encodes the records of one topic."""

    topic: str
    codec: Codec
    schema_id: int

    def encode(self, frame: pl.DataFrame) -> BinaryColumn:
        return BinaryColumn(self.codec.encode_column(frame, self.schema_id))


@dataclass(frozen=True, slots=True)
class RawTopic:
    """`partitions` is the topic's real count, which decides where an event id belongs."""

    name: str
    topic_id: str
    partitions: int


class QualityPipeline:
    """A `streamkit.ports.Pipeline`; what it decides is held by `state` until the transaction commits."""

    def __init__(
        self,
        *,
        raw: RawTopic,
        reader: Codec,
        validated: Writer,
        quarantine: Writer,
        decisions: Writer,
        rules: Rules,
        state: IdState,
        clock: Clock,
        observe: Callable[[pl.DataFrame, int], None] = lambda rows, rerouted: None,
        check: Callable[[str, pl.DataFrame], None] = lambda topic, rows: None,
    ) -> None:
        """`observe` is called with every decided batch and the number of records passed on, for metrics;
        `check` before it, with the topic, and may raise `Paused` (`guard.py`)."""
        self._raw = raw
        self._reader = reader
        self._validated = validated
        self._quarantine = quarantine
        self._decisions = decisions
        self._rules = rules
        self._state = state
        self._clock = clock
        self._observe = observe
        self._check = check

    def process(self, batch: RecordBatch) -> Sequence[OutputBatch]:
        """Raises `Paused` for the partitions whose schemas cannot be fetched now, or which a bad deployment
        would flood."""
        now_ms = self._clock.now_ms()
        decoded = self._decode(batch)
        surrounding = envelope(batch, now_ms)
        rows = sales(decoded, surrounding)
        rows, strays = self._route(rows)
        judged = self._rules.judge(rows, now_ms)
        rows = self._with_verdict(rows, judged)
        if decoded.bad:
            rows = self._with_undecodable(rows, undecodable(decoded.bad, batch, surrounding))
        rows = self._with_decision(rows)
        self._check(batch.topic, rows)
        self._observe(rows, strays.height)
        return [
            self._encode_accepted(rows, batch, now_ms),
            self._encode_quarantined(rows, batch, now_ms),
            self._reroute(strays, batch),
            self._encode_decisions(rows, strays, now_ms),
        ]

    def _decode(self, batch: RecordBatch) -> Decoded:
        try:
            return self._reader.decode(batch.value)
        except RegistryUnavailable as error:
            raise Paused(self._unreadable(batch), f"schema registry: {error}") from error

    def _unreadable(self, batch: RecordBatch) -> list[TopicPartition]:
        """The partitions that hold a record of a schema that cannot be fetched; the others may go on."""
        found = []
        for partition in np.unique(batch.partition).tolist():
            try:
                self._reader.decode(take(batch.value, np.flatnonzero(batch.partition == partition)))
            except RegistryUnavailable:
                found.append(TopicPartition(batch.topic, partition))
        return found

    def _route(self, rows: pl.DataFrame) -> tuple[pl.DataFrame, pl.DataFrame]:
        """Rows that are decided here, and those of another partition."""
        stray = is_stray(rows, self._raw.partitions)
        return (rows.filter(~stray), rows.filter(stray)) if stray.any() else (rows, rows.clear())

    def _with_verdict(self, rows: pl.DataFrame, judged: Judged) -> pl.DataFrame:
        score, warnings = self._rules.warnings(judged.warn)
        return rows.with_columns(
            pl.Series("reject", judged.reject, dtype=pl.Int64),
            judged.amount_micros.alias("amount_micros"),
            score.alias("quality_score"),
            warnings.alias("warnings"),
            pl.lit(None, dtype=pl.String).alias("detail"),
        )

    def _with_undecodable(self, rows: pl.DataFrame, unread: pl.DataFrame) -> pl.DataFrame:
        """All records to decide, in the order of the batch."""
        marked = unread.with_columns(pl.lit(self._rules.bit(UNDECODABLE), dtype=pl.Int64).alias("reject"))
        return pl.concat([rows, marked], how="diagonal").sort("position")

    def _with_decision(self, rows: pl.DataFrame) -> pl.DataFrame:
        """Adds `outcome`, `resolves` (raw offset of the item resolved, or -1), `reason` and `rules`."""
        reject = rows["reject"].to_numpy()
        outcome, resolves = self._decide(rows, reject == 0)
        conflict = np.where(outcome == Outcome.CONFLICT, self._rules.bit(CONFLICT), 0)
        # A duplicate is no quarantine item, whatever rules apply to it.
        reason, rules = self._rules.rejections(np.where(np.isin(outcome, _QUARANTINED), reject | conflict, 0))
        return rows.with_columns(
            pl.Series("outcome", outcome, dtype=pl.UInt8),
            pl.Series("resolves", resolves, dtype=pl.Int64),
            reason.alias("reason"),
            rules.alias("rules"),
        )

    def _decide(
        self, rows: pl.DataFrame, valid: NDArray[np.bool_]
    ) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
        keys, hashes = event_keys(rows["event_id"]), from_hex(rows["content_hash"])
        partitions, offsets = rows["partition"].to_numpy(), rows["offset"].to_numpy()
        outcome = np.empty(rows.height, dtype=np.uint8)
        resolves = np.empty(rows.height, dtype=np.int64)
        for partition in np.unique(partitions).tolist():
            own = np.flatnonzero(partitions == partition)
            decided = self._state.decide(partition, keys[own], hashes[own], offsets[own], valid[own])
            outcome[own], resolves[own] = decided.outcome, decided.resolves
        return outcome, resolves

    def _encode_accepted(self, rows: pl.DataFrame, batch: RecordBatch, now_ms: int) -> OutputBatch:
        accepted = rows.filter(pl.col("outcome").is_in(_ACCEPTED))
        frame = outputs.validated(accepted, self._raw.topic_id, now_ms)
        return OutputBatch(
            topic=self._validated.topic,
            value=self._validated.encode(frame),
            key=outputs.as_keys(accepted["invoice_no"]),
            headers=take(batch.headers, accepted["position"].to_numpy()),
        )

    def _encode_quarantined(self, rows: pl.DataFrame, batch: RecordBatch, now_ms: int) -> OutputBatch:
        refused = self._rules.explain(rows.filter(pl.col("outcome").is_in(_QUARANTINED)))
        resolving = rows.filter(pl.col("outcome") == Outcome.ACCEPTED_RESOLVING)
        about = (batch, self._raw.topic_id, now_ms)
        # Opened first: an item may be opened and resolved within one batch.
        told = [outputs.opened(refused, *about), outputs.resolved(resolving, *about)]
        replayed = replays.of(rows, batch)
        if replayed.height:
            mended, failed = replays.settled(replayed, partial(self._holds, batch))
            told += [
                outputs.mended(mended, *about),
                outputs.retried(replays.failures(failed, self._rules), *about),
            ]
        items = pl.concat(told, how="diagonal")
        if replayed.height:
            # A replay of an item of its own event resolves it twice over.
            items = items.unique(["item_id", "state", "position"], keep="last", maintain_order=True)
        return OutputBatch(
            topic=self._quarantine.topic,
            value=self._quarantine.encode(items),
            key=outputs.as_keys(items["item_id"]),
            headers=take(batch.headers, items["position"].to_numpy()),
        )

    def _holds(self, batch: RecordBatch, rows: pl.DataFrame) -> NDArray[np.bool_]:
        """Whether each row's event is accepted with the row's content, this batch counted."""
        keys, hashes = event_keys(rows["event_id"]), from_hex(rows["content_hash"])
        partitions, begins = rows["partition"].to_numpy(), batch.first_offsets()
        held = np.zeros(rows.height, dtype=bool)
        for partition in np.unique(partitions).tolist():
            own = np.flatnonzero(partitions == partition)
            begin = begins[TopicPartition(batch.topic, partition)]
            held[own] = self._state.holds(partition, keys[own], hashes[own], begin)
        return held

    def _reroute(self, strays: pl.DataFrame, batch: RecordBatch) -> OutputBatch:
        """Strays as they came, keyed by their event id, to the partition where it is decided."""
        positions = strays["position"].to_numpy()
        return OutputBatch(
            topic=self._raw.name,
            value=take(batch.value, positions),
            key=outputs.as_keys(strays["event_id"]),
            headers=outputs.rerouted_headers(batch, positions.tolist()),
            partition=home(strays, self._raw.partitions).tolist(),
        )

    def _encode_decisions(self, rows: pl.DataFrame, strays: pl.DataFrame, now_ms: int) -> OutputBatch:
        passed_on = strays.with_columns(pl.lit(Outcome.REROUTED, dtype=pl.UInt8).alias("outcome"))
        every = pl.concat([rows, passed_on], how="diagonal") if strays.height else rows
        frame = outputs.decisions(every, self._raw.topic_id, now_ms)
        return OutputBatch(
            topic=self._decisions.topic,
            value=self._decisions.encode(frame),
            key=[None] * frame.height,
            partition=frame["partition"].to_list(),
        )
