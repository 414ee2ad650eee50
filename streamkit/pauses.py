"""Partitions that wait for something outside (registry, database) to come back."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from dataclasses import dataclass

from streamkit.clock import Clock
from streamkit.limits import Limits
from streamkit.ports import Consumer, Paused, TopicPartition
from streamkit.stats import StageStats

log = logging.getLogger(__name__)


@dataclass(slots=True)
class _Wait:
    until_s: float
    reason: str


class Pauses:
    """Pauses partitions with a growing wait; the stage is degraded until all of them made progress."""

    def __init__(self, consumer: Consumer, stats: StageStats, clock: Clock, limits: Limits) -> None:
        self._consumer = consumer
        self._stats = stats
        self._clock = clock
        self._limits = limits
        self._waiting: dict[TopicPartition, _Wait] = {}
        # Counts the pauses in a row, and outlives the wait: only progress clears it.
        self._attempts: dict[TopicPartition, int] = {}

    def add(self, paused: Paused, within: Iterable[TopicPartition]) -> None:
        """Pause those of the partitions `within` the batch that the exception names; all if it names none."""
        batch = set(within)
        partitions = sorted(batch & paused.partitions or batch)
        self._consumer.pause(partitions)
        for tp in partitions:
            attempt = self._attempts.get(tp, 0) + 1
            self._attempts[tp] = attempt
            wait_s = self._limits.backoff_s(attempt, paused.retry_after_s)
            self._waiting[tp] = _Wait(self._clock.monotonic_s() + wait_s, paused.reason)
        log.warning(
            "partitions paused",
            extra={"reason": paused.reason, "partitions": [f"{t}[{p}]" for t, p in partitions]},
        )
        self._stats.degraded(paused.reason)

    @property
    def active(self) -> bool:
        return bool(self._attempts)

    def resume_due(self) -> None:
        now_s = self._clock.monotonic_s()
        due = [tp for tp, wait in self._waiting.items() if wait.until_s <= now_s]
        for tp in due:
            del self._waiting[tp]
        if due:
            self._consumer.resume(due)

    def progressed(self, partitions: Iterable[TopicPartition]) -> None:
        """A batch of these partitions was committed."""
        if self._attempts:
            self._clear(partitions)

    def forget(self, partitions: Iterable[TopicPartition]) -> None:
        """These partitions are another member's now."""
        if self._attempts:
            self._clear(partitions)

    def _clear(self, partitions: Iterable[TopicPartition]) -> None:
        for tp in partitions:
            self._attempts.pop(tp, None)
            self._waiting.pop(tp, None)
        if not self._attempts:
            log.info("no partition is paused any more")
            self._stats.ready()
