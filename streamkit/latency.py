"""Latencies by array: histograms for `/metrics` and quantiles of the last minute."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray
from prometheus_client import CollectorRegistry
from prometheus_client.core import HistogramMetricFamily
from prometheus_client.registry import Collector

BUCKETS_S = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.0, 3.0, 5.0, 10.0, 30.0, 60.0, 300.0, 3600.0)

_WINDOW_S = 60
# Logarithmic bins from 0.1 ms to about 4 months, 2 % wide: a quantile is off by 1 % at most, in fixed memory
# at any rate of records.
_BIN_BASE_MS = 0.1
_BIN_LOG = np.log(1.02)
_BINS = 1275


class LatencyWindow:
    """Latencies of the last minute, one row of bins per second. Not thread-safe."""

    def __init__(self) -> None:
        self._bins = np.zeros((_WINDOW_S, _BINS), dtype=np.int64)
        self._second_of_row = np.full(_WINDOW_S, -1, dtype=np.int64)

    def add(self, latency_ms: NDArray[np.float64], second: int) -> None:
        row = second % _WINDOW_S
        if self._second_of_row[row] != second:
            self._bins[row] = 0
            self._second_of_row[row] = second
        index = np.log(np.maximum(latency_ms, _BIN_BASE_MS) / _BIN_BASE_MS) / _BIN_LOG
        self._bins[row] += np.bincount(np.minimum(index.astype(np.int64), _BINS - 1), minlength=_BINS)

    def quantiles_ms(self, second: int, *quantiles: float) -> list[float] | None:
        """One value per quantile, or None where the last minute is empty."""
        cumulative = self._bins[self._second_of_row > second - _WINDOW_S].sum(axis=0).cumsum()
        if len(cumulative) == 0 or cumulative[-1] == 0:
            return None
        # Nearest-rank: the bin that holds the ceil(q * n)-th smallest.
        ranks = np.maximum(np.ceil(np.asarray(quantiles) * cumulative[-1]), 1)
        bins = np.searchsorted(cumulative, ranks)
        return [round(float(_BIN_BASE_MS * np.exp((b + 0.5) * _BIN_LOG)), 3) for b in bins]


class LatencyHistogram(Collector):
    """A histogram with one label, filled by array: `Histogram.observe` costs a microsecond each.

    Thread-safe.
    """

    def __init__(
        self, name: str, help_text: str, label: str, values: tuple[str, ...], registry: CollectorRegistry
    ) -> None:
        """`values` of the label are exposed from the start, with zero counts."""
        self._name = name
        self._help = help_text
        self._label = label
        self._lock = threading.Lock()
        self._counts = {value: _no_counts() for value in values}
        self._sum_s = dict.fromkeys(values, 0.0)
        registry.register(self)

    def add(self, value: str, latency_s: NDArray[np.float64]) -> None:
        index = np.searchsorted(BUCKETS_S, latency_s, side="left")
        with self._lock:
            counts = self._counts.setdefault(value, _no_counts())
            counts += np.bincount(index, minlength=len(counts))
            self._sum_s[value] = self._sum_s.get(value, 0.0) + float(latency_s.sum())

    def collect(self) -> Iterator[HistogramMetricFamily]:
        family = HistogramMetricFamily(self._name, self._help, labels=[self._label])
        bounds = [*(str(b) for b in BUCKETS_S), "+Inf"]
        with self._lock:
            rows = [(value, counts.cumsum(), self._sum_s[value]) for value, counts in self._counts.items()]
        for value, cumulative, total in rows:
            buckets = [(bound, float(count)) for bound, count in zip(bounds, cumulative, strict=True)]
            family.add_metric([value], buckets, sum_value=total)
        yield family


def _no_counts() -> NDArray[np.int64]:
    return np.zeros(len(BUCKETS_S) + 1, dtype=np.int64)
