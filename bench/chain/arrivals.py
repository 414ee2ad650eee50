"""When did each event arrive? Pure arithmetic over what the watchers saw.

A store that takes events in offset order is seen as a series: at time t everything below an offset was there.
An event arrived at the first time whose offset lies above its own.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import polars as pl
from numpy.typing import NDArray

Millis = NDArray[np.float64]


@dataclass(slots=True)
class Series:
    """Of one partition: `below[i]` is the next offset seen at `at_ms[i]` (ms since 1970); both ascend."""

    at_ms: list[float] = field(default_factory=list)
    below: list[int] = field(default_factory=list)

    def add(self, at_ms: float, below: int) -> None:
        """Kept only where it is news."""
        if not self.below or below > self.below[-1]:
            self.at_ms.append(at_ms)
            self.below.append(below)

    def arrived_ms(self, offsets: NDArray[np.int64]) -> Millis:
        """NaN for those that never did."""
        place = np.searchsorted(np.asarray(self.below, dtype=np.int64), offsets, side="right")
        times = np.append(np.asarray(self.at_ms, dtype=np.float64), np.nan)
        found: Millis = times[place]
        return found


def arrived(events: pl.DataFrame, series: Mapping[int, Series]) -> Millis:
    """Of each row of `events` by its columns `partition` and `offset`."""
    partitions, offsets = events["partition"].to_numpy(), events["offset"].to_numpy()
    found = np.full(events.height, np.nan)
    for partition, seen in series.items():
        own = np.flatnonzero(partitions == partition)
        found[own] = seen.arrived_ms(offsets[own])
    return found


def by_rank(first_ms: Millis, counts: Sequence[int], at_ms: Sequence[float]) -> Millis:
    """Arrival behind a feed that tells only how many events it has counted.

    `first_ms`: when each event reached what the feed reads. The event that is n-th there has arrived when the
    feed first says n or more; of events that came together the last one's number counts.
    """
    rank = np.searchsorted(np.sort(first_ms), first_ms, side="right")
    place = np.searchsorted(np.asarray(counts, dtype=np.int64), rank, side="left")
    times = np.append(np.asarray(at_ms, dtype=np.float64), np.nan)
    found: Millis = np.where(np.isnan(first_ms), np.nan, times[place])
    return found


@dataclass(frozen=True, slots=True)
class Percentiles:
    """Of latencies in seconds. `missing`: events that never arrived."""

    events: int
    missing: int
    p50: float
    p95: float
    p99: float
    p999: float
    maximum: float


def percentiles(latency_ms: Millis) -> Percentiles:
    """Nearest rank, over every event that arrived."""
    there = np.sort(latency_ms[~np.isnan(latency_ms)]) / 1000.0
    missing = len(latency_ms) - len(there)
    if len(there) == 0:
        return Percentiles(0, missing, *([float("nan")] * 5))
    ranks = [max(int(np.ceil(q * len(there))) - 1, 0) for q in (0.5, 0.95, 0.99, 0.999, 1.0)]
    return Percentiles(len(there), missing, *(float(there[rank]) for rank in ranks))
