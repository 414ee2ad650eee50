"""Every metric of the aggregates process beyond those that all stages have."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

from prometheus_client import CollectorRegistry
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector


class WindowCount(Collector):
    """`tillstream_aggregates_windows{shard}`: windows kept in memory. They never close, so it only grows."""

    def __init__(self, registry: CollectorRegistry, sizes: Callable[[], Mapping[int, int]]) -> None:
        self._sizes = sizes
        registry.register(self)

    def collect(self) -> Iterator[GaugeMetricFamily]:
        family = GaugeMetricFamily(
            "tillstream_aggregates_windows", "Windows kept in memory.", labels=["shard"]
        )
        for shard, count in sorted(self._sizes().items()):
            family.add_metric([str(shard)], count)
        yield family
