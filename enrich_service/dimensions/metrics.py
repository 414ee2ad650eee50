"""Every metric of the dimension builder beyond those that all stages have."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

from prometheus_client import CollectorRegistry, Counter
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector


class VersionCount(Collector):
    """`tillstream_dimension_versions{topic}`: versions that count now, inferred members included."""

    def __init__(self, registry: CollectorRegistry, sizes: Callable[[], Mapping[str, int]]) -> None:
        self._sizes = sizes
        registry.register(self)

    def collect(self) -> Iterator[GaugeMetricFamily]:
        family = GaugeMetricFamily(
            "tillstream_dimension_versions", "Versions of a dimension's members.", labels=["topic"]
        )
        for topic, count in sorted(self._sizes().items()):
            family.add_metric([topic], count)
        yield family


class ChangeMetrics:
    def __init__(self, registry: CollectorRegistry) -> None:
        # Values of change events that were taken as missing: a valid_from that is no time, a price beyond 64
        # bits of micros. Label `column`: of the source's table.
        self.unreadable = Counter(
            "tillstream_dimension_unreadable",
            "Values of change events that could not be read.",
            ["column"],
            registry=registry,
        )

    def count_unreadable(self, column: str, count: int) -> None:
        self.unreadable.labels(column).inc(count)
