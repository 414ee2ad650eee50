"""The protocol of sinks that keep the offsets themselves."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pytest

from streamkit.clock import FakeClock
from streamkit.limits import Limits
from streamkit.memory import MemoryAdmin, MemoryBroker, MemoryConsumer, MemoryProducer
from streamkit.ports import BrokerError, NewTopic, OutputBatch, Paused, RecordBatch, TopicPartition
from streamkit.sink_runner import SinkRunner
from streamkit.stats import StageStats
from tests.unit.streamkit.streamkit_world import SMALL, crash_at

TOPICS = ["enriched", "quarantine"]


class Table:
    """Rows and offsets that change together."""

    def __init__(self) -> None:
        self.rows: list[bytes | None] = []
        self.offsets: dict[TopicPartition, int] = {}
        self.down = False

    def start_offsets(self, partitions: Sequence[TopicPartition]) -> Mapping[TopicPartition, int]:
        self._check([])
        return {tp: self.offsets[tp] for tp in partitions if tp in self.offsets}

    def write(self, batches: Sequence[RecordBatch]) -> None:
        self._check([tp for batch in batches for tp in batch.next_offsets()])
        for batch in batches:
            self.rows += batch.value
            self.offsets |= batch.next_offsets()

    def _check(self, partitions: Sequence[TopicPartition]) -> None:
        if self.down:
            raise Paused(partitions, "database unavailable", retry_after_s=0.2)


class SinkWorld:
    def __init__(self) -> None:
        self.clock = FakeClock()
        self.broker = MemoryBroker(self.clock)
        MemoryAdmin(self.broker).ensure_topics([NewTopic(t, 2) for t in TOPICS])
        self.table = Table()
        self.stats = StageStats("sink", self.clock)
        self.sent: list[bytes] = []

    def send(self, count: int) -> None:
        for topic in TOPICS:
            ids = [b"%s-%05d" % (topic.encode(), i) for i in range(len(self.sent), len(self.sent) + count)]
            MemoryProducer(self.broker).produce([OutputBatch(topic, ids, ids)], 1)
            self.sent += ids

    def runner(self, limits: Limits = SMALL) -> SinkRunner:
        consumer = MemoryConsumer(self.broker, "sink")
        return SinkRunner(
            consumer, self.table, topics=TOPICS, stats=self.stats, clock=self.clock, limits=limits
        )

    def drain(self, runner: SinkRunner) -> None:
        for _ in range(500):
            if sum(self.table.offsets.values()) == len(self.sent):
                return
            runner.step()
            self.clock.advance(0.1)
        raise AssertionError("never drained")

    def assert_each_row_once(self) -> None:
        assert sorted(self.table.rows, key=str) == sorted(self.sent, key=str)


@pytest.fixture
def world() -> SinkWorld:
    world = SinkWorld()
    world.send(40)
    return world


@pytest.mark.parametrize("point", ["after-poll", "after-write", "after-show"])
def test_a_crash_at_any_step_leaves_each_row_once(world: SinkWorld, point: str) -> None:
    def crash() -> None:
        raise KeyError(point)

    for _ in range(3):
        runner = world.runner()
        runner.start()
        with crash_at(point, crash, after=1), pytest.raises(KeyError):
            world.drain(runner)
        runner.close()
    last = world.runner()
    last.start()
    world.drain(last)
    world.assert_each_row_once()


def test_the_sinks_offsets_win_over_the_groups(world: SinkWorld) -> None:
    stranger = MemoryConsumer(world.broker, "sink")
    stranger.subscribe(TOPICS, on_assign=lambda _: None, on_revoke=lambda _: None, on_lost=lambda _: None)
    stranger.poll(1, 1, 0, 0)
    stranger.commit(dict.fromkeys(stranger.assignment(), 7))
    stranger.close()
    runner = world.runner()
    runner.start()
    world.drain(runner)
    world.assert_each_row_once()


def test_the_group_shows_what_was_written(world: SinkWorld) -> None:
    runner = world.runner()
    runner.start()
    world.drain(runner)
    assert world.broker.committed_offsets("sink") == world.table.offsets


def test_offsets_that_cannot_be_shown_stop_nothing(world: SinkWorld) -> None:
    runner = world.runner()
    runner.start()
    world.broker.fail_next("commit_offsets", BrokerError("coordinator gone", retriable=True))
    world.drain(runner)
    world.assert_each_row_once()


def test_a_database_outage_pauses_and_then_goes_on(world: SinkWorld) -> None:
    runner = world.runner()
    runner.start()
    runner.step()
    world.table.down = True
    for _ in range(20):
        runner.step()
        world.clock.advance(0.1)
    assert world.stats.readiness() == (False, "database unavailable")
    world.table.down = False
    world.drain(runner)
    assert world.stats.readiness() == (True, None)
    world.assert_each_row_once()


def test_a_database_that_is_down_at_assignment_is_waited_for(world: SinkWorld) -> None:
    class Comeback(FakeClock):
        def sleep(self, seconds: float) -> None:
            super().sleep(seconds)
            world.table.down = self.monotonic_s() < 3

    world.clock = Comeback()
    world.table.down = True
    runner = world.runner()
    runner.start()
    world.drain(runner)
    assert world.stats.state == "ready"
    world.assert_each_row_once()


def test_an_error_of_the_sink_stops_the_stage(world: SinkWorld) -> None:
    runner = world.runner()
    runner.start()
    world.table.write = lambda _: 1 / 0  # type: ignore[method-assign,assignment]
    with pytest.raises(ZeroDivisionError):
        runner.step()
