"""The way of a measurement: end offsets -> positions -> records between them -> lag.

    1. the bounds of every partition that was there last time
    2. the positions of every group: Kafka's own, and over them those of groups with books elsewhere
    3. the bounds of partitions that are new
    4. the records after each position that are not known yet, bounded in number
    5. per group and partition: how many records wait, and how old the first of them is

The ends come before the positions: what is counted is how many of the records that were there at the
beginning are still unread, so a group that keeps up has no lag, whatever is written meanwhile.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from deploy.observability.lag.model import Bounds, PartitionLag, Position, Snapshot, committed_or
from deploy.observability.lag.window import Window
from streamkit.clock import Clock
from streamkit.ports import TopicPartition

log = logging.getLogger(__name__)


class Wanted(NamedTuple):
    """Records to be read: from `begin` up to the offset `stop`, at most `limit`."""

    begin: int
    stop: int
    limit: int


class Found(NamedTuple):
    """The records read. All below `end` are among them."""

    offsets: Sequence[int]
    times_ms: Sequence[int]
    end: int


class Cluster(Protocol):
    """What is asked of Kafka. Each call raises `BrokerError` when it cannot be answered."""

    def positions(self) -> list[Position]:
        """Of every group: committed offsets, and assigned partitions without one."""

    def bounds(self, partitions: Iterable[TopicPartition]) -> dict[TopicPartition, Bounds]:
        """Partitions that are not there any more are left out."""

    def topic_ids(self, topics: Iterable[str]) -> dict[str, str]:
        """Topics that are not there are left out."""

    def read(self, wanted: Mapping[TopicPartition, Wanted]) -> dict[TopicPartition, Found]:
        """Records that a read-committed consumer would get. What could not be read in time is left out."""


Elsewhere = Callable[[], list[Position]]


@dataclass(frozen=True, slots=True)
class Budget:
    """`records`: read at most so many of a partition in one measurement. `known`: keep at most so many."""

    records: int = 2_000
    known: int = 50_000


class LagPipeline:
    """Not thread-safe."""

    def __init__(
        self, cluster: Cluster, elsewhere: Sequence[Elsewhere], clock: Clock, budget: Budget | None = None
    ) -> None:
        """`elsewhere`: positions that groups keep outside Kafka; what cannot be asked raises `OSError`."""
        self._cluster = cluster
        self._elsewhere = elsewhere
        self._clock = clock
        self._budget = budget or Budget()
        self._partitions: set[TopicPartition] = set()
        self._windows: dict[tuple[str, TopicPartition], Window] = {}

    def measure(self) -> Snapshot:
        """Raises `BrokerError`."""
        began_ms, began_s = self._clock.now_ms(), self._clock.monotonic_s()
        bounds = self._cluster.bounds(self._partitions)  # 1
        positions = self._positions()  # 2
        new = {p.partition for p in positions} - bounds.keys()
        bounds |= self._cluster.bounds(new)  # 3
        positions = [p for p in positions if p.partition in bounds]
        self._partitions = {p.partition for p in positions}
        self._learn(positions, bounds)  # 4
        return Snapshot(
            taken_ms=began_ms,
            took_s=self._clock.monotonic_s() - began_s,
            bounds={tp: bounds[tp] for tp in sorted(self._partitions)},
            partitions=tuple(self._lag(p, bounds[p.partition], began_ms) for p in positions),  # 5
        )

    def _positions(self) -> list[Position]:
        found = {(p.group, p.partition): p for p in self._cluster.positions()}
        for ask in self._elsewhere:
            try:
                own = ask()
            except OSError as error:
                # The group's offsets in Kafka, where it shows them, are the next best.
                log.warning("positions kept elsewhere are unknown", extra={"error": str(error)})
                continue
            for p in committed_or(own, self._topic_ids(own)):
                shown = found.get((p.group, p.partition))
                found[p.group, p.partition] = p if shown is None else _with_member(p, shown)
        return [found[key] for key in sorted(found)]

    def _topic_ids(self, positions: Iterable[Position]) -> dict[str, str]:
        topics = {p.partition.topic for p in positions if p.topic_id is not None}
        return self._cluster.topic_ids(topics) if topics else {}

    def _learn(self, positions: Sequence[Position], bounds: Mapping[TopicPartition, Bounds]) -> None:
        """Bring every window up to its partition's end, as far as the budget goes."""
        windows = {}
        for p in positions:
            begin = _begin(p, bounds[p.partition])
            window = self._windows.get((p.group, p.partition), Window(begin))
            window.move(begin)
            windows[p.group, p.partition] = window
        self._windows = windows
        lacking: dict[TopicPartition, list[Window]] = {}
        for (_, tp), window in windows.items():
            if not window.knows(bounds[tp].stable) and window.known < self._budget.known:
                lacking.setdefault(tp, []).append(window)
        while lacking:
            lacking = self._read(lacking, bounds)

    def _read(
        self, lacking: Mapping[TopicPartition, list[Window]], bounds: Mapping[TopicPartition, Bounds]
    ) -> dict[TopicPartition, list[Window]]:
        """One read of every partition, for the windows that end close together; the others are returned."""
        limit = self._budget.records
        now: dict[TopicPartition, list[Window]] = {}
        later: dict[TopicPartition, list[Window]] = {}
        for tp, windows in lacking.items():
            start = min(window.end for window in windows)
            for window in windows:
                (now if window.end - start < limit else later).setdefault(tp, []).append(window)
        wanted = {
            tp: Wanted(min(w.end for w in windows), bounds[tp].stable, limit) for tp, windows in now.items()
        }
        found = self._cluster.read(wanted)
        for tp, windows in now.items():
            for window in windows:
                if tp in found and found[tp].end >= window.end:
                    window.add(*found[tp])
        return later

    def _lag(self, position: Position, bounds: Bounds, now_ms: int) -> PartitionLag:
        window = self._windows[position.group, position.partition]
        records = window.count(bounds.stable)
        first_ms = window.first_ms()
        seconds: float | None = 0.0
        if records:
            seconds = None if first_ms is None else max(now_ms - first_ms, 0) / 1000.0
        return PartitionLag(position, records, seconds, exact=window.knows(bounds.stable))


def _begin(position: Position, bounds: Bounds) -> int:
    """A group that has committed nothing is taken to read from the beginning, as all of the platform's do;
    one whose position was deleted by retention goes on at the first record that is left."""
    return max(position.offset if position.offset is not None else 0, bounds.earliest)


def _with_member(own: Position, shown: Position) -> Position:
    return Position(own.group, own.partition, own.offset, shown.member, own.topic_id)
