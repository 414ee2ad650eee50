"""The metrics of lag, under the names and labels of kafka-lag-exporter, which existing dashboards use."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from prometheus_client.core import GaugeMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from deploy.observability.lag.model import PartitionLag, Snapshot

_MEMBER = ("cluster_name", "group", "topic", "partition", "member_host", "consumer_id", "client_id")


class LagMetrics(Collector):
    """Nothing is exposed while there is no measurement: a stale lag would look like a true one."""

    def __init__(self, measured: Callable[[], Snapshot | None], cluster: str) -> None:
        self._measured = measured
        self._cluster = cluster

    def describe(self) -> list[Metric]:
        """Without it, registration would measure."""
        return []

    def collect(self) -> Iterator[Metric]:
        snapshot = self._measured()
        if snapshot is None:
            return
        yield from self._partitions(snapshot)
        yield from self._members(snapshot)
        yield from self._groups(snapshot)
        took = _gauge("kafka_consumergroup_poll_time_ms", "Duration of a measurement.", ("cluster_name",))
        took.add_metric([self._cluster], snapshot.took_s * 1000)
        yield took

    def _partitions(self, snapshot: Snapshot) -> Iterator[Metric]:
        labels = ("cluster_name", "topic", "partition")
        latest = _gauge("kafka_partition_latest_offset", "The next offset to be written.", labels)
        earliest = _gauge("kafka_partition_earliest_offset", "The first offset that is kept.", labels)
        for tp, bounds in snapshot.bounds.items():
            place = [self._cluster, tp.topic, str(tp.partition)]
            latest.add_metric(place, bounds.latest)
            earliest.add_metric(place, bounds.earliest)
        yield from (latest, earliest)

    def _members(self, snapshot: Snapshot) -> Iterator[Metric]:
        offset = _gauge("kafka_consumergroup_group_offset", "The next offset that a group reads.", _MEMBER)
        lag = _gauge("kafka_consumergroup_group_lag", "Unread records.", _MEMBER)
        seconds = _gauge(
            "kafka_consumergroup_group_lag_seconds", "Age of the first unread record, 0 without one.", _MEMBER
        )
        bound = _gauge(
            "tillstream_lag_bound",
            "1 where group_lag is an upper bound, counted by offsets, and 0 where it is exact.",
            _MEMBER,
        )
        for each in snapshot.partitions:
            place = self._place(each)
            if each.position.offset is not None:
                offset.add_metric(place, each.position.offset)
            lag.add_metric(place, each.records)
            if each.seconds is not None:
                seconds.add_metric(place, each.seconds)
            bound.add_metric(place, 0 if each.exact else 1)
        yield from (offset, lag, seconds, bound)

    def _groups(self, snapshot: Snapshot) -> Iterator[Metric]:
        labels = ("cluster_name", "group")
        most = _gauge("kafka_consumergroup_group_max_lag", "Unread records of the worst partition.", labels)
        oldest = _gauge(
            "kafka_consumergroup_group_max_lag_seconds", "Age of the oldest unread record.", labels
        )
        total = _gauge("kafka_consumergroup_group_sum_lag", "Unread records of all partitions.", labels)
        by_topic = _gauge(
            "kafka_consumergroup_group_topic_sum_lag", "Unread records of a topic.", (*labels, "topic")
        )
        worst: dict[str, int] = {}
        sums: dict[tuple[str, str], int] = {}
        for each in snapshot.partitions:
            group, topic = each.position.group, each.position.partition.topic
            worst[group] = max(worst.get(group, 0), each.records)
            sums[group, topic] = sums.get((group, topic), 0) + each.records
        for found in snapshot.groups():
            place = [self._cluster, found.group]
            most.add_metric(place, worst[found.group])
            total.add_metric(place, found.records)
            if found.seconds is not None:
                oldest.add_metric(place, found.seconds)
        for (group, topic), records in sums.items():
            by_topic.add_metric([self._cluster, group, topic], records)
        yield from (most, oldest, total, by_topic)

    def _place(self, lag: PartitionLag) -> list[str]:
        position = lag.position
        tp, member = position.partition, position.member
        return [self._cluster, position.group, tp.topic, str(tp.partition), *member]


def _gauge(name: str, help_text: str, labels: tuple[str, ...]) -> GaugeMetricFamily:
    return GaugeMetricFamily(name, help_text, labels=list(labels))
