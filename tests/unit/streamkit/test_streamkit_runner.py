"""The commit protocol of the runner, on the broker in memory."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pytest

from streamkit.clock import FakeClock
from streamkit.crashpoints import crash_point
from streamkit.memory import MemoryConsumer
from streamkit.ports import (
    BrokerError,
    CommitOutcomeUnknown,
    Fenced,
    OutputBatch,
    Paused,
    RecordBatch,
    TopicPartition,
    TransactionAborted,
)
from streamkit.runner import Runner
from tests.unit.streamkit.streamkit_world import (
    GROUP,
    SLOT,
    SOURCE,
    TARGET,
    Killed,
    PassThrough,
    World,
    crash_at,
)

POINTS = [
    "after-poll",
    "after-process",
    "after-begin",
    "after-produce",
    "after-before-commit",
    "after-send-offsets",
    "after-commit",
    "after-after-commit",
]


class StepError(Exception):
    """A failure that no step of the protocol knows."""


def fail() -> None:
    raise StepError


def test_a_batch_goes_through_the_numbered_steps_in_order() -> None:
    world = World(partitions=1)
    world.send(3)
    runner = world.runner()
    runner.start()
    world.recorder.actions.clear()
    assert [runner.step(), runner.step()] == [True, False]
    assert world.recorder.actions == [
        "process",
        "begin",
        "produce",
        "before_commit",
        "send_offsets",
        "commit",
        "after_commit",
    ]
    world.assert_each_id_once()


@pytest.mark.parametrize("after", [0, 2], ids=["first batch", "third batch"])
@pytest.mark.parametrize("point", POINTS)
def test_an_exception_at_any_step_leaves_each_id_once(point: str, after: int) -> None:
    world = World()
    world.send(45)
    with crash_at(point, fail, times=2, after=after):
        assert world.supervise(world.runner) == 2
    world.assert_each_id_once()


@pytest.mark.parametrize("after", [0, 2], ids=["first batch", "third batch"])
@pytest.mark.parametrize("point", POINTS)
def test_a_kill_at_any_step_leaves_each_id_once(point: str, after: int) -> None:
    world = World()
    world.send(45)
    with crash_at(point, world.kill, times=2, after=after):
        assert world.supervise(world.runner) == 2
    world.assert_each_id_once()


class CommitsBeforeProduce(Runner):
    """Sabotage: the offsets go first, the outputs after them."""

    def _transact(
        self,
        outputs: Sequence[OutputBatch],
        first: dict[TopicPartition, int],
        following: dict[TopicPartition, int],
    ) -> bool:
        self._producer.begin()
        self._producer.send_offsets(following, self._consumer.group_metadata())
        self._producer.commit()
        crash_point("after-commit")
        self._producer.begin()
        self._producer.produce(outputs)
        self._producer.commit()
        return True


def test_commit_before_produce_is_found_out() -> None:
    world = World()
    world.send(45)
    with crash_at("after-commit", world.kill):
        world.supervise(lambda: world.runner(make=CommitsBeforeProduce))
    with pytest.raises(AssertionError):
        world.assert_each_id_once()


@pytest.mark.parametrize("happened", [True, False])
def test_an_unknown_commit_replaces_the_producer_and_leaves_each_id_once(happened: bool) -> None:
    world = World(partitions=1)
    world.send(25)
    runner = world.runner()
    runner.start()
    world.broker.fail_next("commit", CommitOutcomeUnknown("timed out", retriable=True), after=happened)
    for _ in range(3):
        world.broker.fail_next("replace", BrokerError("down", retriable=True))
    world.recorder.actions.clear()
    assert runner.step() is happened
    following = world.recorder.actions[world.recorder.actions.index("commit") :]
    if happened:
        assert following == ["commit", *["replace"] * 4, "after_commit"]
    else:
        assert following == ["commit", *["replace"] * 4, "abort", "after_abort"]
    assert world.stats.state == "ready"
    world.drain(runner)
    world.assert_each_id_once()
    assert world.stats.snapshot()["records_in"] == 25


def test_a_broker_outage_is_waited_for_in_a_degraded_state() -> None:
    world = World(partitions=1)
    world.send(25)
    runner = world.runner()
    runner.start()
    states: list[str] = []

    class Comeback(FakeClock):
        def sleep(self, seconds: float) -> None:
            states.append(world.stats.state)
            world.broker.down = len(states) < 7

    runner._clock = Comeback()

    def outage() -> None:
        world.broker.down = True

    with crash_at("after-send-offsets", outage):
        world.drain(runner)
    assert len(states) >= 7
    assert "degraded" in states
    assert world.stats.state == "ready"
    world.assert_each_id_once()


@pytest.mark.parametrize("call", ["begin", "produce", "send_offsets", "commit"])
def test_an_aborted_transaction_is_done_again(call: str) -> None:
    world = World()
    world.send(25)
    runner = world.runner()
    runner.start()
    world.broker.fail_next(call, TransactionAborted("rebalance", retriable=True))
    world.drain(runner)
    assert world.recorder.actions.count("after_abort") == 1
    world.assert_each_id_once()


def test_a_batch_that_always_aborts_stops_the_stage() -> None:
    world = World(partitions=1)
    world.send(5)
    runner = world.runner()
    runner.start()
    for _ in range(10):
        world.broker.fail_next("commit", TransactionAborted("record refused", retriable=True))
    for _ in range(world.limits.max_attempts - 1):
        assert not runner.step()
    with pytest.raises(TransactionAborted, match="record refused"):
        runner.step()
    assert world.broker.committed_records(TARGET) == []


def test_the_third_abort_in_a_row_degrades_the_stage_until_the_batch_is_through() -> None:
    world = World(partitions=1)
    world.send(5)
    runner = world.runner()
    runner.start()
    runner.step()
    seen = []
    for _ in range(3):
        world.broker.fail_next("commit", TransactionAborted("record refused", retriable=True))
    world.send(5)
    for _ in range(4):
        runner.step()
        seen.append(world.stats.readiness())
    refused = (False, "aborted 3 times in a row: record refused")
    assert seen == [(True, None), (True, None), refused, (True, None)]


def test_a_refusal_that_cannot_pass_stops_the_stage_at_once() -> None:
    world = World(partitions=1)
    world.send(5)
    runner = world.runner()
    runner.start()
    world.broker.fail_next("produce", BrokerError("record too large"))
    with pytest.raises(BrokerError, match="record too large"):
        runner.step()
    assert "abort" in world.recorder.actions


def test_a_fenced_runner_stops_and_tells_nobody() -> None:
    world = World(partitions=1)
    world.send(25)
    old = world.runner()
    old.start()
    old.step()

    def successor_starts() -> None:
        world.broker.initialise(SLOT)

    world.recorder.actions.clear()
    with crash_at("after-produce", successor_starts), pytest.raises(Fenced):
        old.step()
    assert not {"after_commit", "after_abort", "replace"} & set(world.recorder.actions)
    old.close()
    world.supervise(world.runner)
    world.assert_each_id_once()


class NeedsRegistry:
    """Raises `Paused` for one partition while the registry is down."""

    def __init__(self, inner: PassThrough) -> None:
        self.inner = inner
        self.down = True
        self.tries_at: list[float] = []
        self.now: Callable[[], float] = lambda: 0.0

    def process(self, batch: RecordBatch) -> Sequence[OutputBatch]:
        if self.down and (batch.partition == 0).any():
            self.tries_at.append(self.now())
            raise Paused([TopicPartition(SOURCE, 0)], "registry unavailable", retry_after_s=0.5)
        return self.inner.process(batch)


def test_a_registry_outage_pauses_its_partition_and_loses_nothing() -> None:
    world = World(partitions=2)
    world.send(60)
    pipeline = NeedsRegistry(PassThrough(world.recorder))
    pipeline.now = world.clock.monotonic_s
    runner = world.runner(pipeline=pipeline)
    runner.start()
    for _ in range(100):
        runner.step()
        world.clock.advance(0.1)
    waits = [b - a for a, b in zip(pipeline.tries_at, pipeline.tries_at[1:], strict=False)]
    assert waits == sorted(waits)
    assert 0.4 < waits[0] < 0.7
    assert world.stats.readiness() == (False, "registry unavailable")
    other = sum(r.partition == 1 for r in _places(world))
    assert other == world.admin.end_offsets(SOURCE)[TopicPartition(SOURCE, 1)]
    assert sum(r.partition == 0 for r in _places(world)) == 0

    pipeline.down = False
    world.drain(runner)
    assert world.stats.readiness() == (True, None)
    world.assert_each_id_once()


def _places(world: World) -> list[TopicPartition]:
    """Where in the source the committed records come from: both topics partition alike."""
    return [
        TopicPartition(TARGET, tp.partition)
        for tp in world.admin.partitions(TARGET)
        for _ in world.broker.log(tp).read(0, 10_000)
    ]


def test_a_participant_that_is_down_pauses_too() -> None:
    world = World(partitions=1)
    world.send(5)
    runner = world.runner()
    runner.start()
    outages = iter([True, True, False])

    def outage() -> None:
        if next(outages, False):
            raise Paused([], "state store busy")

    with crash_at("after-produce", outage, times=3):
        world.drain(runner)
    assert world.recorder.actions.count("after_abort") == 2
    assert world.stats.state == "ready"
    world.assert_each_id_once()


def test_stop_finishes_the_batch_in_hand_and_gives_the_partitions_back() -> None:
    world = World(partitions=2)
    world.send(45)
    runner = world.runner()
    with crash_at("after-process", runner.stop):
        runner.run()
    assert world.consumed() == 10
    assert len(world.broker.committed_records(TARGET)) == 10
    assert sorted(world.participant.revoked_partitions) == world.admin.partitions(SOURCE)
    world.supervise(world.runner)
    world.assert_each_id_once()


def test_participants_learn_the_committed_offsets_of_what_they_get() -> None:
    world = World(partitions=2)
    first, second = world.admin.partitions(SOURCE)
    world.send(45)
    world.supervise(world.runner)
    assert world.participant.assigned_offsets == [{first: None, second: None}]
    end = world.admin.end_offsets(SOURCE)
    runner = world.runner()
    runner.start()
    runner.step()
    assert world.participant.assigned_offsets[1] == end


def test_two_instances_share_the_work_and_survive_a_lost_session() -> None:
    world = World(partitions=4)
    world.send(200)
    one, two = world.runner("slot-1"), world.runner("slot-2")
    one.start()
    one.step()
    two.start()
    for _ in range(3):
        one.step()
        two.step()
    # In the middle of a batch the group gives this member's partitions to the other.
    lost: MemoryConsumer = world._consumers[0]
    with crash_at("after-process", lost.lose_session):
        one.step()
    world.drain(two, one)
    assert world.recorder.actions.count("after_abort") >= 1
    world.assert_each_id_once()


def test_statistics_count_committed_records_and_their_latency() -> None:
    world = World(partitions=1)
    world.send(25)
    runner = world.runner()
    runner.start()
    world.clock.advance(2.0)
    world.broker.fail_next("commit", TransactionAborted("rebalance", retriable=True))
    world.drain(runner)
    world.clock.advance(1.0)
    runner.step()
    snapshot = world.stats.snapshot()
    assert (snapshot["records_in"], snapshot["records_out"], snapshot["lag"]) == (25, 25, 0)
    assert snapshot["lag_seconds"] == 0.0
    assert snapshot["p50_ms"] is not None
    assert 2000 <= snapshot["p50_ms"] <= 2600


def test_a_kill_is_no_exception_that_a_handler_could_soften() -> None:
    world = World()
    world.send(5)
    runner = world.runner()
    runner.start()
    with crash_at("after-produce", world.kill), pytest.raises(Killed):
        runner.step()
    assert "abort" not in world.recorder.actions
    assert world.broker.committed_offsets(GROUP) == {}


def test_an_outage_while_partitions_arrive_is_waited_for() -> None:
    """The committed offsets are asked for inside the rebalance, where an error would end the process."""
    world = World(partitions=2)
    world.send(15)
    runner = world.runner()
    runner.start()
    for _ in range(3):
        world.broker.fail_next("committed", BrokerError("offsets are loading", retriable=True))
    world.drain(runner)
    assert world.clock.monotonic_s() > 0.5
    assert world.stats.state == "ready"
    world.assert_each_id_once()
