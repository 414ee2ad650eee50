"""A measurement over a cluster in memory: its order, its failures, the metrics and answers made of it."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.parser import text_string_to_metric_families

from deploy.observability.lag.checkpoints import CheckpointPositions
from deploy.observability.lag.metrics import LagMetrics
from deploy.observability.lag.model import Bounds, Member, Position, Snapshot
from deploy.observability.lag.pipeline import Found, LagPipeline, Wanted
from deploy.observability.lag.service import LagService
from streamkit.clock import FakeClock
from streamkit.ports import BrokerError, TopicPartition
from streamkit.stats import StageStats

SALES = TopicPartition("sales", 0)
ITEMS = TopicPartition("items", 1)
READER = Member("/10.0.0.7", "till-1-abc", "till-1")


@dataclass
class Cluster:
    """`records`: offset and time of each; `ends`: the stable end of each partition."""

    records: dict[TopicPartition, list[tuple[int, int]]] = field(default_factory=dict)
    ends: dict[TopicPartition, int] = field(default_factory=dict)
    groups: list[Position] = field(default_factory=list)
    ids: dict[str, str] = field(default_factory=dict)
    calls: list[str] = field(default_factory=list)
    down: bool = False
    mute: bool = False

    def positions(self) -> list[Position]:
        self.calls.append("positions")
        if self.down:
            raise BrokerError("nobody answers", retriable=True)
        return list(self.groups)

    def bounds(self, partitions: Iterable[TopicPartition]) -> dict[TopicPartition, Bounds]:
        wanted = set(partitions) & self.ends.keys()
        self.calls.append(f"bounds {len(wanted)}")
        return {tp: Bounds(0, self.ends[tp], self.ends[tp]) for tp in wanted}

    def topic_ids(self, topics: Iterable[str]) -> dict[str, str]:
        return {topic: self.ids[topic] for topic in topics if topic in self.ids}

    def read(self, wanted: Mapping[TopicPartition, Wanted]) -> dict[TopicPartition, Found]:
        self.calls.append("read")
        found = {}
        for tp, (begin, stop, limit) in wanted.items() if not self.mute else ():
            rows = [row for row in self.records.get(tp, []) if begin <= row[0] < stop][:limit]
            end = rows[-1][0] + 1 if len(rows) == limit else stop
            found[tp] = Found([o for o, _ in rows], [at for _, at in rows], end)
        return found


def measure(cluster: Cluster, *elsewhere: Any, clock: FakeClock | None = None) -> Snapshot:
    return LagPipeline(cluster, elsewhere, clock or FakeClock()).measure()


def world() -> tuple[Cluster, FakeClock]:
    clock = FakeClock()
    now = clock.now_ms()
    cluster = Cluster(
        records={SALES: [(3, now - 9_000), (5, now - 2_000)], ITEMS: []},
        ends={SALES: 8, ITEMS: 4},
        groups=[Position("stores", SALES, 2, READER), Position("stores", ITEMS, 2)],
    )
    return cluster, clock


def test_ends_are_asked_before_positions_so_that_a_group_that_keeps_up_has_no_lag() -> None:
    cluster, clock = world()
    pipeline = LagPipeline(cluster, [], clock)
    pipeline.measure()
    cluster.calls.clear()
    pipeline.measure()
    assert cluster.calls == ["bounds 2", "positions", "bounds 0"]
    cluster.groups = [Position("stores", SALES, 20), Position("stores", ITEMS, 4)]
    assert [lag.records for lag in pipeline.measure().partitions] == [0, 0]


def test_groups_sum_their_partitions_and_tell_the_oldest_record() -> None:
    cluster, clock = world()
    cluster.groups.append(Position("other", SALES, 4))
    totals = {g.group: (g.records, g.seconds, g.exact) for g in measure(cluster, clock=clock).groups()}
    assert totals == {"other": (1, 2.0, True), "stores": (2, 9.0, True)}


def test_metrics_have_the_names_and_labels_of_existing_dashboards() -> None:
    cluster, clock = world()
    snapshot = measure(cluster, clock=clock)
    registry = CollectorRegistry()
    registry.register(LagMetrics(lambda: snapshot, "east"))
    samples = {
        (s.name, tuple(sorted(s.labels.items()))): s.value
        for family in text_string_to_metric_families(generate_latest(registry).decode())
        for s in family.samples
    }
    place = {
        "cluster_name": "east", "group": "stores", "topic": "sales", "partition": "0",
        "member_host": "/10.0.0.7", "consumer_id": "till-1-abc", "client_id": "till-1",
    }  # fmt: skip
    member = tuple(sorted(place.items()))
    assert samples["kafka_consumergroup_group_offset", member] == 2
    assert samples["kafka_consumergroup_group_lag", member] == 2
    assert samples["kafka_consumergroup_group_lag_seconds", member] == 9.0
    group = (("cluster_name", "east"), ("group", "stores"))
    assert samples["kafka_consumergroup_group_max_lag", group] == 2
    assert samples["kafka_consumergroup_group_max_lag_seconds", group] == 9.0
    assert samples["kafka_consumergroup_group_sum_lag", group] == 2
    assert samples["kafka_consumergroup_group_topic_sum_lag", (*group, ("topic", "items"))] == 0
    partition = (("cluster_name", "east"), ("partition", "0"), ("topic", "sales"))
    assert samples["kafka_partition_latest_offset", partition] == 8
    assert samples["kafka_partition_earliest_offset", partition] == 0


def service(cluster: Cluster, clock: FakeClock) -> tuple[LagService, StageStats]:
    stats = StageStats("lag", clock)
    return LagService(LagPipeline(cluster, [], clock), stats, clock, max_age_s=1.0, interval_s=15.0), stats


def test_measurement_is_shared_by_all_who_ask_within_its_age() -> None:
    cluster, clock = world()
    asked, _ = service(cluster, clock)
    first = asked.measured()
    clock.advance(0.9)
    assert asked.measured() is first
    clock.advance(0.2)
    assert asked.measured() is not first


def test_no_stale_lag_is_told_while_kafka_is_down() -> None:
    cluster, clock = world()
    asked, stats = service(cluster, clock)
    assert asked.answer()[0] == 200
    cluster.down = True
    clock.advance(2)
    status, _, body = asked.answer()
    assert (status, json.loads(body)) == (503, {"error": "Kafka: nobody answers"})
    assert stats.snapshot()["state"] == "degraded"
    cluster.down = False
    clock.advance(2)
    assert json.loads(asked.answer()[2])["groups"][0]["lag"] == 2
    assert stats.snapshot()["state"] == "ready"


Batches = dict[int, dict[str, dict[str, int]]]


def checkpoint(folder: Path, query: str, batches: Batches, committed: int) -> None:
    for name in ("offsets", "commits"):
        (folder / query / name).mkdir(parents=True)
    for batch, offsets in batches.items():
        (folder / query / "offsets" / str(batch)).write_text(
            f'v1\n{{"batchWatermarkMs":0,"conf":{{}}}}\n{json.dumps(offsets)}'
        )
        (folder / query / "offsets" / f".{batch}.crc").write_bytes(b"crc")
        if batch <= committed:
            (folder / query / "commits" / str(batch)).write_text('v1\n{"nextBatchWatermarkMs":0}')


def test_lake_stands_where_its_checkpoints_last_committed_batch_ends(tmp_path: Path) -> None:
    fact = {9: {"sales": {"0": 30}}, 10: {"sales": {"0": 44}}, 11: {"sales": {"0": 50}}}
    checkpoint(tmp_path, "fact", fact, 10)
    checkpoint(tmp_path, "silver", {0: {"sales": {"0": 20}}}, 0)
    checkpoint(tmp_path, "bronze", {0: {"items": {"1": 7}}}, -1)
    (tmp_path / "stray-file").touch()
    found = {(p.group, p.partition): p.offset for p in CheckpointPositions(tmp_path)()}
    assert found == {
        ("tillstream.lake.fact", SALES): 44,
        ("tillstream.lake.silver", SALES): 20,
        ("tillstream.lake", SALES): 20,
    }
    assert CheckpointPositions(tmp_path / "not-there-yet")() == []


@pytest.mark.parametrize("topic_id", ["now", None])
def test_position_of_the_topic_that_is_there_counts(topic_id: str | None) -> None:
    cluster, clock = world()
    cluster.ids = {"sales": "now"}
    own = [Position("stores", SALES, 4, topic_id=topic_id)]
    lag = measure(cluster, lambda: own, clock=clock).partitions[-1]
    assert (lag.position.partition, lag.records, lag.position.member) == (SALES, 1, READER)


def test_partition_that_could_not_be_read_is_told_as_a_bound_without_an_age() -> None:
    cluster, clock = world()
    cluster.mute = True
    lag = measure(cluster, clock=clock).partitions[-1]
    assert (lag.records, lag.seconds, lag.exact) == (6, None, False)
