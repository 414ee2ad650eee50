"""Read and store, for stores that keep the Kafka offsets in their own transaction."""

from __future__ import annotations

import logging
import threading
from collections.abc import Sequence

from streamkit.clock import Clock
from streamkit.crashpoints import crash_point
from streamkit.limits import Limits
from streamkit.membership import named
from streamkit.pauses import Pauses
from streamkit.ports import BrokerError, Consumer, Paused, Sink, TopicPartition
from streamkit.reporting import Reporter
from streamkit.stats import StageStats

log = logging.getLogger(__name__)


class SinkRunner:
    """Runs one sink over some topics until it is stopped or must not go on.

    The protocol, with the same numbers in the code:

    1. On assignment, start where the sink's own books say, whatever the group committed.
    2. Poll a batch, bounded by count, bytes and time.
    3. The sink writes rows and next offsets in one transaction of its own: this is the commit.
    4. Commit the offsets to the group as well. Nobody reads them back: they show the lag to the world.

    *Paused* (1 or 3: the store is down): seek back, pause the partitions, try again with growing waits, the
    stage degraded meanwhile. *Anything else* at 1-3 stops the stage; the sink's books say where it goes on.
    """

    def __init__(
        self,
        consumer: Consumer,
        sink: Sink,
        *,
        topics: Sequence[str],
        stats: StageStats,
        clock: Clock,
        limits: Limits | None = None,
    ) -> None:
        self._consumer = consumer
        self._sink = sink
        self._topics = list(topics)
        self._stats = stats
        self._clock = clock
        self._limits = limits or Limits()
        self._pauses = Pauses(consumer, stats, clock, self._limits)
        self._reporter = Reporter(consumer, stats, clock, self._limits.report_every_s)
        self._stop = threading.Event()

    def stop(self) -> None:
        """Finish the batch in hand, then return from `run`. Safe from signals and threads."""
        self._stop.set()

    def run(self) -> None:
        """Blocks. Returns after `stop`; raises whatever the stage must not go on after."""
        try:
            self.start()
            while not self._stop.is_set():
                self.step()
        finally:
            self.close()

    def start(self) -> None:
        self._consumer.subscribe(
            self._topics, on_assign=self._assigned, on_revoke=self._removed, on_lost=self._removed
        )

    def step(self) -> bool:
        """One poll and, where it brought records, one write. True if a batch was written."""
        self._reporter.report_if_due()
        self._pauses.resume_due()
        limits = self._limits
        # 2. Poll.
        batches = self._consumer.poll(
            limits.max_records, limits.max_bytes, limits.poll_timeout_s, limits.linger_s
        )
        if not batches:
            return False
        crash_point("after-poll")
        first = {tp: offset for batch in batches for tp, offset in batch.first_offsets().items()}
        following = {tp: offset for batch in batches for tp, offset in batch.next_offsets().items()}
        try:
            # 3. Write.
            self._sink.write(batches)
        except Paused as paused:
            self._consumer.seek(first)
            self._pauses.add(paused, first)
            return False
        crash_point("after-write")
        # 4. Show the offsets.
        self._show(following)
        crash_point("after-show")
        self._pauses.progressed(following)
        self._reporter.committed(batches, sum(map(len, batches)))
        return True

    def close(self) -> None:
        try:
            self._consumer.close()
        except Exception:
            log.exception("close failed")

    def _assigned(self, partitions: Sequence[TopicPartition]) -> dict[TopicPartition, int]:
        # 1. Start where the sink says.
        starts = self._starts(partitions)
        crash_point("after-starts")
        log.info("partitions assigned", extra={"partitions": named(partitions)})
        if not self._pauses.active:
            self._stats.ready()
        # One that the sink does not know starts at the beginning: the group's offsets are only for show.
        return {tp: starts.get(tp, 0) for tp in partitions}

    def _starts(self, partitions: Sequence[TopicPartition]) -> dict[TopicPartition, int]:
        attempt = 0
        while True:
            try:
                return dict(self._sink.start_offsets(partitions))
            except Paused as paused:
                if self._stop.is_set():
                    raise
                attempt += 1
                log.warning("waiting for the sink", extra={"reason": paused.reason, "attempt": attempt})
                self._stats.degraded(paused.reason)
                self._clock.sleep(self._limits.backoff_s(attempt, paused.retry_after_s))

    def _removed(self, partitions: Sequence[TopicPartition]) -> None:
        self._pauses.forget(partitions)
        log.info("partitions removed", extra={"partitions": named(partitions)})

    def _show(self, following: dict[TopicPartition, int]) -> None:
        try:
            self._consumer.commit(following)
        except BrokerError as error:
            log.warning("offsets not shown to the group", extra={"error": str(error)})
