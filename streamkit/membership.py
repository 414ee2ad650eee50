"""What a runner does when partitions come and go."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence

from streamkit.pauses import Pauses
from streamkit.ports import Consumer, Participant, TopicPartition
from streamkit.stats import StageStats

log = logging.getLogger(__name__)

Offsets = dict[TopicPartition, int | None]


class Membership:
    """The rebalance callbacks of a runner; they run inside `poll`, so no batch is in hand."""

    def __init__(
        self,
        consumer: Consumer,
        participants: Sequence[Participant],
        pauses: Pauses,
        stats: StageStats,
        patiently: Callable[[Callable[[], Offsets]], Offsets],
    ) -> None:
        """`patiently` calls until the broker answers: partitions may arrive while it is just coming back."""
        self._consumer = consumer
        self._participants = participants
        self._pauses = pauses
        self._stats = stats
        self._patiently = patiently

    def join(self, topics: Sequence[str]) -> None:
        self._consumer.subscribe(
            list(topics), on_assign=self._assigned, on_revoke=self._removed, on_lost=self._removed
        )

    def _assigned(self, partitions: Sequence[TopicPartition]) -> dict[TopicPartition, int]:
        committed = self._patiently(lambda: self._consumer.committed(partitions))
        for participant in self._participants:
            participant.assigned(committed)
        log.info("partitions assigned", extra={"partitions": named(partitions)})
        if not self._pauses.active:
            self._stats.ready()
        # The very offsets that the participants were told, and not what a second look-up may say.
        return {tp: offset for tp, offset in committed.items() if offset is not None}

    def _removed(self, partitions: Sequence[TopicPartition]) -> None:
        """Revoked or lost: every batch so far was committed or aborted, so there is nothing to commit."""
        self._pauses.forget(partitions)
        for participant in self._participants:
            participant.revoked(partitions)
        log.info("partitions removed", extra={"partitions": named(partitions)})


def named(partitions: Sequence[TopicPartition]) -> list[str]:
    return [f"{topic}[{partition}]" for topic, partition in partitions]
