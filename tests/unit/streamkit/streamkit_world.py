"""A stage on the broker in memory, with a supervisor that restarts it and a process that can be killed."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from streamkit import crashpoints
from streamkit.clock import FakeClock
from streamkit.limits import Limits
from streamkit.memory import (
    MemoryAdmin,
    MemoryBroker,
    MemoryConsumer,
    MemoryProducer,
    MemoryTransactionalProducer,
)
from streamkit.ports import NewTopic, OutputBatch, Pipeline, RecordBatch, TopicPartition
from streamkit.runner import Runner
from streamkit.stats import StageStats

SOURCE, TARGET, GROUP, SLOT = "source", "target", "group", "slot"
SMALL = Limits(max_records=10, poll_timeout_s=0.0, linger_s=0.0, max_attempts=4)


class Killed(BaseException):
    """As SIGKILL: no handler runs after it."""


class Recorder:
    """The order in which the ports and participants were called."""

    def __init__(self) -> None:
        self.actions: list[str] = []

    def note(self, action: str) -> None:
        self.actions.append(action)


class Mortal:
    """Passes calls on to a port while its process lives; afterwards every call is `Killed`."""

    def __init__(self, port: Any, world: World, recorder: Recorder) -> None:
        self._port = port
        self._world = world
        self._life = world.life
        self._recorder = recorder

    def __getattr__(self, name: str) -> Any:
        attribute = getattr(self._port, name)

        def call(*args: Any, **kwargs: Any) -> Any:
            if self._world.life != self._life:
                raise Killed
            self._recorder.note(name)
            return attribute(*args, **kwargs)

        return call


class PassThrough:
    def __init__(self, recorder: Recorder) -> None:
        self._recorder = recorder

    def process(self, batch: RecordBatch) -> Sequence[OutputBatch]:
        self._recorder.note("process")
        return [OutputBatch(TARGET, batch.value, batch.key, batch.headers)]


class RecordingParticipant:
    def __init__(self, recorder: Recorder) -> None:
        self._recorder = recorder
        self.assigned_offsets: list[dict[TopicPartition, int | None]] = []
        self.revoked_partitions: list[TopicPartition] = []
        self.committed: list[dict[TopicPartition, int]] = []

    def assigned(self, offsets: Mapping[TopicPartition, int | None]) -> None:
        self.assigned_offsets.append(dict(offsets))

    def revoked(self, partitions: Sequence[TopicPartition]) -> None:
        self.revoked_partitions += partitions

    def before_commit(self, next_offsets: Mapping[TopicPartition, int]) -> None:
        self._recorder.note("before_commit")

    def after_commit(self, next_offsets: Mapping[TopicPartition, int]) -> None:
        self._recorder.note("after_commit")
        self.committed.append(dict(next_offsets))

    def after_abort(self) -> None:
        self._recorder.note("after_abort")


class World:
    def __init__(self, partitions: int = 2, limits: Limits = SMALL) -> None:
        self.clock = FakeClock()
        self.broker = MemoryBroker(self.clock)
        self.admin = MemoryAdmin(self.broker)
        self.admin.ensure_topics([NewTopic(SOURCE, partitions), NewTopic(TARGET, partitions)])
        self.limits = limits
        self.life = 0
        self.recorder = Recorder()
        self.participant = RecordingParticipant(self.recorder)
        self.stats = StageStats("stage", self.clock)
        self.sent: list[bytes] = []
        self._consumers: list[MemoryConsumer] = []

    def send(self, count: int) -> None:
        ids = [b"id-%05d" % i for i in range(len(self.sent), len(self.sent) + count)]
        headers = [[("ingest-ts", b"%d" % self.clock.now_ms())] for _ in ids]
        MemoryProducer(self.broker).produce([OutputBatch(SOURCE, ids, ids, headers)], 1)
        self.sent += ids

    def runner(
        self,
        slot: str = SLOT,
        pipeline: Pipeline | None = None,
        make: type[Runner] = Runner,
        limits: Limits | None = None,
    ) -> Runner:
        consumer = MemoryConsumer(self.broker, GROUP)
        self._consumers.append(consumer)
        consumer_port: Any = Mortal(consumer, self, Recorder())
        producer_port: Any = Mortal(MemoryTransactionalProducer(self.broker, slot), self, self.recorder)
        return make(
            consumer_port,
            producer_port,
            pipeline or PassThrough(self.recorder),
            topics=[SOURCE],
            stats=self.stats,
            clock=self.clock,
            participants=[self.participant],
            limits=limits or self.limits,
        )

    def kill(self) -> None:
        """The process is gone at once, and the group notices."""
        self.life += 1
        for consumer in self._consumers:
            consumer.lose_session()
        self._consumers.clear()
        raise Killed

    def supervise(self, make_runner: Callable[[], Runner]) -> int:
        """Run until everything sent is consumed, restarting after each failure. Returns the restarts."""
        for restarts in range(20):
            runner = make_runner()
            try:
                runner.start()
                self.drain(runner)
            except Killed:
                continue
            except Exception:
                runner.close()
                continue
            runner.close()
            return restarts
        raise AssertionError("never drained")

    def drain(self, *runners: Runner) -> None:
        for _ in range(2000):
            if self.consumed() == len(self.sent):
                return
            for runner in runners:
                runner.step()
            self.clock.advance(0.1)
        raise AssertionError("never drained")

    def consumed(self) -> int:
        """The source has no markers, so its committed offsets count its records."""
        return sum(self.broker.committed_offsets(GROUP).values())

    def assert_each_id_once(self) -> None:
        out = [record.value for record in self.broker.committed_records(TARGET)]
        assert sorted(out, key=str) == sorted(self.sent, key=str)


@contextmanager
def crash_at(point: str, crash: Callable[[], None], times: int = 1, after: int = 0) -> Iterator[None]:
    """Call `crash` where `point` is passed, `times` times, leaving the first `after` passes alone."""
    passes = 0

    def hook(name: str) -> None:
        nonlocal passes
        if name != point:
            return
        passes += 1
        if after < passes <= after + times:
            crash()

    crashpoints.arm(hook)
    try:
        yield
    finally:
        crashpoints.disarm()
