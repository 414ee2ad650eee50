"""What the tests of quality compare with: the decision table in plain words, and a partition to play on."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
import polars as pl

from quality_service.changelog import DecidedBatch
from quality_service.entries import ENTRY, NO_OFFSET, State, event_keys, from_hex
from quality_service.memory_store import MemoryStores
from quality_service.state import IdState
from quality_service.store import IdStore, Stores
from schemas.decisions import Outcome
from streamkit.clock import FakeClock
from streamkit.ports import TopicPartition

TOPIC, TOPIC_ID, PARTITION = "sales.raw.v1", "AbCdEfGhIjKlMnOpQrStUv", 2
TP = TopicPartition(TOPIC, PARTITION)


@dataclass(frozen=True)
class Raw:
    """One raw record, as far as deciding goes. Its offset is its place in the log, times `GAP`."""

    event_id: str
    content: str
    valid: bool

    @property
    def content_hash(self) -> str:
        return hashlib.sha256(self.content.encode()).hexdigest()[:32]


GAP = 3  # offsets are not dense: transaction markers lie between records


@dataclass
class Model:
    """Section 3 of the design, record by record, with sets and dicts."""

    accepted: dict[str, str] = field(default_factory=dict)
    rejected: dict[str, tuple[str, int]] = field(default_factory=dict)
    conflicts: set[tuple[str, str]] = field(default_factory=set)

    def decide(self, raw: Raw, offset: int) -> tuple[Outcome, int]:
        """Outcome, and the offset of the rejected record that it resolves."""
        if raw.event_id in self.accepted:
            pair = (raw.event_id, raw.content)
            if self.accepted[raw.event_id] == raw.content or pair in self.conflicts:
                return Outcome.DUPLICATE, NO_OFFSET
            self.conflicts.add(pair)
            return Outcome.CONFLICT, NO_OFFSET
        if raw.event_id in self.rejected:
            content, at = self.rejected[raw.event_id]
            if raw.valid:
                self.accepted[raw.event_id] = raw.content
                return Outcome.ACCEPTED_RESOLVING, at
            if content == raw.content:
                return Outcome.DUPLICATE, NO_OFFSET
        if raw.valid:
            self.accepted[raw.event_id] = raw.content
            return Outcome.ACCEPTED, NO_OFFSET
        self.rejected[raw.event_id] = (raw.content, offset)
        return Outcome.REJECTED, NO_OFFSET


def expected(log: Sequence[Raw]) -> list[tuple[Outcome, int]]:
    model = Model()
    return [model.decide(raw, place * GAP) for place, raw in enumerate(log)]


class ListChangelog:
    """Committed batches, in memory."""

    def __init__(self) -> None:
        self.batches: list[DecidedBatch] = []

    def read(self, topic_id: str, partition: int, after: int) -> Iterator[DecidedBatch]:
        assert (topic_id, partition) == (TOPIC_ID, PARTITION)
        return iter([batch for batch in self.batches if batch.end > after])


class Play:
    """One partition of raw, its group offset and changelog, and a quality process that comes and goes."""

    def __init__(self, log: Sequence[Raw], stores: Stores | None = None) -> None:
        self.log = log
        self.stores = stores or MemoryStores()
        self.changelog = ListChangelog()
        self.committed: int | None = None
        self.decided: list[tuple[Outcome, int]] = []
        self.state = self._start()

    def _start(self) -> IdState:
        state = IdState(TOPIC, TOPIC_ID, self.stores, self.changelog, FakeClock())
        state.assigned({TP: self.committed})
        return state

    def attempt(self, count: int) -> tuple[pl.DataFrame, list[tuple[Outcome, int]]]:
        """Steps 1 and 2: decide the next `count` records."""
        begin = len(self.decided)
        batch = self.log[begin : begin + count]
        offsets = np.arange(begin, begin + len(batch), dtype=np.int64) * GAP
        ids = pl.Series([raw.event_id for raw in batch], dtype=pl.String)
        hashes = pl.Series([raw.content_hash for raw in batch], dtype=pl.String)
        valid = np.array([raw.valid for raw in batch], dtype=bool)
        outcomes = self.state.decide(PARTITION, event_keys(ids), from_hex(hashes), offsets, valid)
        rows = pl.DataFrame(
            {"offset": offsets, "event_id": ids, "content_hash": hashes, "outcome": outcomes.outcome}
        )
        found = zip(outcomes.outcome.tolist(), outcomes.resolves.tolist(), strict=True)
        return rows, [(Outcome(o), r) for o, r in found]

    def commit(self, count: int) -> None:
        rows, outcomes = self.attempt(count)
        if rows.is_empty():
            self.state.after_abort()
            return
        following = {TP: int(rows["offset"][-1]) + 1}
        self.state.before_commit(following)
        self.changelog.batches.append(DecidedBatch(int(rows["offset"][0]), following[TP], rows))
        self.committed = following[TP]
        self.state.after_commit(following)
        self.decided += outcomes

    def abort_before_sync(self, count: int) -> None:
        self.attempt(count)
        self.state.after_abort()

    def abort_after_sync(self, count: int) -> None:
        rows, _ = self.attempt(count)
        if not rows.is_empty():
            self.state.before_commit({TP: int(rows["offset"][-1]) + 1})
        self.state.after_abort()

    def crash_after_sync(self, count: int) -> None:
        self.abort_after_sync(count)
        self.restart()

    def crash_before_after_commit(self, count: int) -> None:
        """The Kafka commit happened, and the process died before it knew."""
        self.commit(count)
        self.restart()

    def restart(self) -> None:
        self.state.close()
        self.state = self._start()

    def lose_disk(self) -> None:
        self.stores = MemoryStores()
        self.restart()

    def elsewhere(self, count: int) -> None:
        """Another instance with a disk of its own decides a batch, and gives the partition back."""
        home = self.stores
        self.stores = MemoryStores()
        self.restart()
        self.commit(count)
        self.stores = home
        self.restart()

    def remembered(self) -> dict[str, tuple[State, bytes, int]]:
        """State, hash and deciding offset of every id of the log that is remembered."""
        store = self.stores.open(TOPIC_ID, PARTITION)
        try:
            return remembered(store, sorted({raw.event_id for raw in self.log}))
        finally:
            store.close()


def remembered(store: IdStore, event_ids: Sequence[str]) -> dict[str, tuple[State, bytes, int]]:
    keys = event_keys(pl.Series(event_ids, dtype=pl.String))
    order = np.argsort(keys)
    rows = store.look_up(keys[order])
    assert rows.dtype == ENTRY
    return {
        event_ids[place]: (State(int(row["state"])), bytes(row["hash"]), int(row["offset"]))
        for place, row in zip(order.tolist(), rows, strict=True)
        if row["state"]
    }
