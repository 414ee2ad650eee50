"""Reads the sales topics into the books, for ever, on a thread of its own.

On each start the ledger reads the topics from their beginning (their retention is unlimited, see
`schemas/topics.yaml`), whatever its group has committed, so that its books depend on no state but the topics.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from quality_service.ledger.books import Books
from schemas.codec import Codec
from schemas.decisions import unpack
from schemas.heartbeat import is_heartbeat
from schemas.identity import key64_expr
from streamkit.headers import header_column
from streamkit.heartbeat import heartbeats
from streamkit.ports import BrokerError, Consumer, RecordBatch, TopicPartition

log = logging.getLogger(__name__)

_SHOW_EVERY_S = 1.0

RAW, VALIDATED, ENRICHED = "sales.raw.v1", "sales.validated.v1", "sales.enriched.v1"
QUARANTINE, DECISIONS = "sales.quarantine.v1", "sales.decisions.v1"
TOPICS = [RAW, DECISIONS, QUARANTINE, VALIDATED, ENRICHED]


class Follower:
    """Owns the consumer; `books` may be read under `lock`."""

    def __init__(self, consumer: Consumer, codecs: Mapping[str, Codec]) -> None:
        self.books = Books()
        self.lock = threading.Lock()
        self.failure: BaseException | None = None
        self._consumer = consumer
        self._codecs = codecs
        self._stop = threading.Event()
        self._assigned: set[TopicPartition] = set()
        self._next: dict[TopicPartition, int] = {}
        self._round = 0
        self._caught_up: dict[TopicPartition, int] = {}
        self._changed = threading.Condition()
        self._lag: int | None = None
        self._to_show: dict[TopicPartition, int] = {}
        self._show_at_s = 0.0
        self._thread = threading.Thread(target=self._run, name="follower", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._stop.set()
        self._thread.join(timeout=10)

    def wait_until_caught_up(self, timeout_s: float) -> bool:
        """True once every partition was seen at its end after this call began."""
        with self._changed:
            start = self._round + 1  # the round under way may have looked before the call

            def all_seen() -> bool:
                return self.failure is not None or (
                    bool(self._assigned) and all(self._caught_up.get(tp, -1) > start for tp in self._assigned)
                )

            return self._changed.wait_for(all_seen, timeout_s) and self.failure is None

    def lag(self) -> int | None:
        with self._changed:
            return self._lag

    def _run(self) -> None:
        try:
            self._consumer.subscribe(
                TOPICS, on_assign=self._on_assign, on_revoke=self._on_revoke, on_lost=self._on_lost
            )
            while not self._stop.is_set():
                for batch in self._consumer.poll(20_000, 32 << 20, timeout_s=0.1, linger_s=0.02):
                    with self.lock:
                        self._enter(batch)
                    self._to_show |= batch.next_offsets()
                self._show()
                lag = self._consumer.lag()
                with self._changed:
                    self._round += 1
                    self._lag = sum(lag.values()) if lag else None
                    for tp, behind in lag.items():
                        if behind == 0:
                            self._caught_up[tp] = self._round
                    self._changed.notify_all()
        except BaseException as error:
            self.failure = error
            with self._changed:
                self._changed.notify_all()
            raise
        finally:
            self._consumer.close()

    def _show(self) -> None:
        """Tell the group how far this process has read, once a second. Nobody reads it back: it shows the lag
        to the world."""
        if not self._to_show or time.monotonic() < self._show_at_s:
            return
        self._show_at_s = time.monotonic() + _SHOW_EVERY_S
        try:
            self._consumer.commit(self._to_show)
        except BrokerError as error:
            log.warning("offsets not shown to the group", extra={"error": str(error)})
            return
        self._to_show = {}

    def _on_assign(self, partitions: Sequence[TopicPartition]) -> dict[TopicPartition, int]:
        self._assigned |= set(partitions)
        return {tp: self._next.get(tp, 0) for tp in partitions}

    def _on_lost(self, partitions: Sequence[TopicPartition]) -> None:
        """The broker was away for longer than the session: the books stay, and go on from there."""
        self._assigned -= set(partitions)

    def _on_revoke(self, partitions: Sequence[TopicPartition]) -> None:
        self._assigned -= set(partitions)
        if not self._stop.is_set():
            raise RuntimeError("another ledger joined the group; the ledger runs once per platform")

    def _enter(self, batch: RecordBatch) -> None:
        enter: dict[str, Callable[[RecordBatch], None]] = {
            RAW: self._enter_raw,
            DECISIONS: self._enter_decisions,
            QUARANTINE: self._enter_quarantine,
            VALIDATED: self._enter_hop,
            ENRICHED: self._enter_hop,
        }
        enter[batch.topic](batch)
        self._next |= batch.next_offsets()

    def _enter_raw(self, batch: RecordBatch) -> None:
        origin = _texts(batch, "rerouted-from").str.split_exact(":", 1).struct.unnest()
        frame = _coordinates(batch).with_columns(
            load_id=_texts(batch, "load-id"),
            heartbeat=_places(len(batch), heartbeats(batch)),
            # Anyone can write this header: what is no pair of numbers must not end the ledger.
            origin_partition=origin["field_0"].cast(pl.Int32, strict=False),
            origin_offset=origin["field_1"].cast(pl.Int64, strict=False),
        )
        self.books.raw.append(
            frame.with_columns(
                origin_partition=pl.coalesce("origin_partition", "partition"),
                origin_offset=pl.coalesce("origin_offset", "offset"),
            )
        )

    def _enter_decisions(self, batch: RecordBatch) -> None:
        for row in self._codecs[DECISIONS].decode(batch.value).frame.iter_rows(named=True):
            rows = unpack(row["payload"]).with_columns(
                key64_expr(pl.lit("sale"), pl.col("event_id")).alias("id"),
                heartbeat=is_heartbeat(),
                partition=pl.lit(row["partition"], dtype=pl.Int32),
                at=pl.lit(_millis(row["decided_ts"])),
            )
            self.books.decisions.append(rows)
            self.books.decided(row["partition"], row["end_offset"])

    def _enter_quarantine(self, batch: RecordBatch) -> None:
        decoded = self._codecs[QUARANTINE].decode(batch.value)
        frame = decoded.frame.rename({"partition": "raw_partition", "offset": "raw_offset"})
        at = _coordinates(batch)[decoded.index]
        self.books.quarantine.append(frame.hstack(at))

    def _enter_hop(self, batch: RecordBatch) -> None:
        decoded = self._codecs[batch.topic].decode(batch.value)
        frame = decoded.frame
        if "revision" in frame.columns:
            first = (frame["revision"] == 0).to_numpy()
        else:
            first = np.ones(frame.height, dtype=bool)
        ids = frame.select(id=key64_expr(pl.lit("sale"), pl.col("event_id")))
        hops = ids.hstack(_coordinates(batch)[decoded.index]).filter(first)
        (self.books.enriched if batch.topic == ENRICHED else self.books.validated).append(hops)


def _coordinates(batch: RecordBatch) -> pl.DataFrame:
    return pl.DataFrame({"partition": batch.partition, "offset": batch.offset, "at": batch.timestamp_ms})


def _places(size: int, found: NDArray[np.intp]) -> pl.Series:
    """True at the places found."""
    flags = np.zeros(size, dtype=bool)
    flags[found] = True
    return pl.Series(flags)


def _texts(batch: RecordBatch, header: str) -> pl.Series:
    """A header of each record, null where it is missing or empty."""
    values = header_column(batch.headers, header)
    return pl.Series(
        [value.decode("utf-8", "replace") if value else None for value in values], dtype=pl.String
    )


def _millis(value: Any) -> int:
    return int(value.timestamp() * 1000) if hasattr(value, "timestamp") else int(value)
