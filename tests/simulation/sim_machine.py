"""The simulated machine: a clock with timers, a broker on that clock, and processes that die or stand
still."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Sequence
from itertools import count
from typing import Any

from streamkit.clock import FakeClock
from streamkit.memory import MemoryBroker
from streamkit.ports import (
    BrokerError,
    CommitOutcomeUnknown,
    NewTopic,
    OutputBatch,
    TransactionAborted,
)
from streamkit.stats import StageStats
from tests.simulation.sim_items import QUARANTINE


class Killed(BaseException):
    """As SIGKILL: no handler of the process runs after it."""


class SimClock(FakeClock):
    """Time passes only where somebody sleeps; what is due then happens, be it in the middle of a call."""

    def __init__(self) -> None:
        super().__init__()
        self._timers: list[tuple[float, int, Callable[[], None]]] = []
        self._order = count()

    def after(self, seconds: float, action: Callable[[], None]) -> None:
        heapq.heappush(self._timers, (self.monotonic_s() + seconds, next(self._order), action))

    def advance(self, seconds: float) -> None:
        super().advance(seconds)
        while self._timers and self._timers[0][0] <= self.monotonic_s():
            heapq.heappop(self._timers)[2]()

    def fire_all(self) -> None:
        """Every fault ends now."""
        while self._timers:
            heapq.heappop(self._timers)[2]()


class SimBroker(MemoryBroker):
    """Waits in simulated time; a topic's id is the same in every run of a seed."""

    def create_topic(self, topic: NewTopic) -> None:
        super().create_topic(topic)
        self._topics[topic.name].topic_id = f"id-of-{topic.name}"

    def now_s(self) -> float:
        return self.clock.monotonic_s()

    def wait(self, seconds: float) -> None:
        self.clock.sleep(max(seconds, 0.5))


def settle(broker: MemoryBroker) -> None:
    """End the transactions whose time is over, as the broker does before anybody reads."""
    with broker.changed:
        broker.expire_transactions()


class SimStats(StageStats):
    """State and reason only: nobody asks for histograms, and they would be most of the cost of a schedule."""

    def __init__(self) -> None:
        self._state = "starting"
        self._reason = None

    def _set_state(self, state: Any, reason: str | None) -> None:
        self._state, self._reason = state, reason

    def add_in(self, count: int) -> None:
        """Not kept."""

    def add_out(self, count: int) -> None:
        """Not kept."""

    def set_lag(self, records: int, seconds: float | None = None) -> None:
        """Not kept."""

    def observe_latency(self, ingest_ts_ms: Any) -> None:
        """Not kept."""

    def observe_hop(self, written_ms: Any) -> None:
        """Not kept."""

    def observe_heartbeats(self, ingest_ts_ms: Any) -> None:
        """Not kept."""


class Life:
    """Whether a process lives; one object for each start of it."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.alive = True

    def check(self) -> None:
        if not self.alive:
            raise Killed


class Faults:
    """What the next calls of a process's ports meet: by name of the call, (error, after it was done)."""

    def __init__(self) -> None:
        self.planned: dict[str, list[tuple[Callable[[], BaseException], bool]]] = {}

    def plan(self, call: str, error: Callable[[], BaseException], *, after: bool) -> None:
        self.planned.setdefault(call, []).append((error, after))

    def meet(self, call: str, *, after: bool) -> None:
        waiting = self.planned.get(call)
        if waiting and waiting[0][1] is after:
            raise waiting.pop(0)[0]()

    def clear(self) -> None:
        self.planned.clear()


PORT_FAULTS: list[tuple[str, Callable[[], BaseException], bool]] = [
    ("commit", lambda: CommitOutcomeUnknown("no answer, not committed", retriable=True), False),
    ("commit", lambda: CommitOutcomeUnknown("no answer, but committed", retriable=True), True),
    ("commit", lambda: TransactionAborted("aborted at commit", retriable=True), False),
    ("send_offsets", lambda: TransactionAborted("the group rebalances", retriable=True), False),
    ("produce", lambda: BrokerError("produce timed out", retriable=True), False),
    ("produce", lambda: BrokerError("no answer to produce", retriable=True), True),
    ("produce", lambda: BrokerError("record refused"), False),
    ("begin", lambda: BrokerError("coordinator moves", retriable=True), False),
    ("committed", lambda: BrokerError("offsets are loading", retriable=True), False),
    ("abort", lambda: BrokerError("abort timed out", retriable=True), False),
    ("replace", lambda: BrokerError("coordinator moves", retriable=True), False),
]
"""Call, error, and whether the call was done all the same."""

BAITS = {"after-replace": PORT_FAULTS[0:2], "after-abort": PORT_FAULTS[2:3]}
"""Crash points off the straight way -> the faults that lead there."""


class Port:
    """Passes calls on while the process lives, with the faults planned for it."""

    def __init__(self, port: Any, life: Life, faults: Faults) -> None:
        self._port = port
        self._life = life
        self._faults = faults

    def __getattr__(self, name: str) -> Any:
        attribute = getattr(self._port, name)

        def call(*args: Any, **kwargs: Any) -> Any:
            self._life.check()
            self._faults.meet(name, after=False)
            answer = attribute(*args, **kwargs)
            self._life.check()
            self._faults.meet(name, after=True)
            return answer

        return call


class ProducerPort(Port):
    """A producer to which quarantine may be unwritable."""

    def __init__(self, port: Any, life: Life, faults: Faults, quarantine_down: Callable[[], bool]) -> None:
        super().__init__(port, life, faults)
        self._quarantine_down = quarantine_down

    def produce(self, batches: Sequence[OutputBatch], *timeout: float) -> None:
        if self._quarantine_down() and any(b.topic == QUARANTINE and len(b) for b in batches):
            raise BrokerError("quarantine cannot be written", retriable=True)
        self.__getattr__("produce")(batches, *timeout)
