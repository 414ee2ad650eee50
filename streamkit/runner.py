"""Read, process, write: each batch with its outputs and offsets in one Kafka transaction."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Mapping, Sequence
from typing import TypeVar

from streamkit.clock import Clock
from streamkit.crashpoints import crash_point
from streamkit.limits import Limits
from streamkit.membership import Membership
from streamkit.pauses import Pauses
from streamkit.ports import (
    BrokerError,
    CommitOutcomeUnknown,
    Consumer,
    Fenced,
    OutputBatch,
    Participant,
    Paused,
    Pipeline,
    TopicPartition,
    TransactionalProducer,
)
from streamkit.reporting import Reporter
from streamkit.sink_runner import SinkRunner
from streamkit.stats import StageStats

__all__ = ["Runner", "SinkRunner"]

log = logging.getLogger(__name__)

# One abort is a rebalance or a broker that was restarted; this many in a row are something to look at.
_TELLING_ABORTS = 3

Offsets = dict[TopicPartition, int]
T = TypeVar("T")


class Runner:
    """Runs one pipeline over some topics until it is stopped or must not go on.

    The commit protocol, with the same numbers in `step` and `_transact`:

    1. Poll a batch, bounded by count, bytes and time.
    2. Process it: a pure function, so that it can be repeated.
    3. Begin a transaction.
    4. Produce the outputs into it.
    5. Participants make their state of this batch durable (`before_commit`).
    6. Send the offsets into the same transaction, under the consumer's group generation.
    7. Commit.
    8. Participants learn of it (`after_commit`); then, and only then, the batch counts in the statistics.

    Where it does not go straight on:

    - *Aborted* (3-7: rebalance, a record refused, the broker gone for a moment): abort, participants
      `after_abort`, seek back to where the batch began, and again. The third time in a row the stage says so
      (degraded); the same batch `max_attempts` times in a row stops it.
    - *Unknown* (7: no answer to the commit): replace the producer, which settles the old transaction under
      the same transactional id, and compare the committed offsets. At the batch's end: it happened, go to
      8. At its start: it did not, as for aborted.
    - *Paused* (2 or 5: something outside is down): as for aborted, but the partitions named are paused and
      tried again with growing waits; the others go on, the stage is degraded.
    - *Fenced* (3-7): another process has this slot. Stop, touch nothing.
    - *Anything else*: abort and stop. The supervisor starts a new process, which reads on from what was
      committed.

    Broker outages at 7, in `replace` and where partitions arrive are waited for as long as they last: a
    restart would not help.
    """

    def __init__(
        self,
        consumer: Consumer,
        producer: TransactionalProducer,
        pipeline: Pipeline,
        *,
        topics: Sequence[str],
        stats: StageStats,
        clock: Clock,
        participants: Sequence[Participant] = (),
        limits: Limits | None = None,
    ) -> None:
        self._consumer = consumer
        self._producer = producer
        self._pipeline = pipeline
        self._topics = list(topics)
        self._participants = list(participants)
        self._stats = stats
        self._clock = clock
        self._limits = limits or Limits()
        self._pauses = Pauses(consumer, stats, clock, self._limits)
        self._membership = Membership(consumer, self._participants, self._pauses, stats, self._patiently)
        self._reporter = Reporter(consumer, stats, clock, self._limits.report_every_s)
        self._stop = threading.Event()
        self._aborts_in_a_row = 0

    def stop(self) -> None:
        """Finish the batch in hand, commit it, then return from `run`. Safe from signals and threads."""
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
        # The producer first: that ends a transaction which this slot's last process left open, and whoever
        # reads its outputs or its offsets waits for the end.
        self._replace_producer()
        crash_point("after-fencing")
        self._membership.join(self._topics)

    def step(self) -> bool:
        """One poll and, where it brought records, one transaction. True if a batch was committed."""
        self._reporter.report_if_due()
        self._pauses.resume_due()
        limits = self._limits
        # 1. Poll.
        batches = self._consumer.poll(
            limits.max_records, limits.max_bytes, limits.poll_timeout_s, limits.linger_s
        )
        if not batches:
            return False
        crash_point("after-poll")
        first = _merged([batch.first_offsets() for batch in batches])
        following = _merged([batch.next_offsets() for batch in batches])
        try:
            # 2. Process.
            outputs = [output for batch in batches for output in self._pipeline.process(batch) if len(output)]
            crash_point("after-process")
            happened = self._transact(outputs, first, following)
        except Paused as paused:
            self._roll_back(first)
            self._pauses.add(paused, first)
            return False
        except Fenced:
            raise
        except BrokerError as error:
            self._try_again(error, first)
            return False
        except BaseException:
            self._abort_quietly()
            raise
        if not happened:
            return False
        # 8. Tell the participants; count.
        for participant in self._participants:
            participant.after_commit(following)
        crash_point("after-after-commit")
        if self._aborts_in_a_row >= _TELLING_ABORTS and not self._pauses.active:
            self._stats.ready()
        self._aborts_in_a_row = 0
        self._pauses.progressed(following)
        self._reporter.committed(batches, sum(map(len, outputs)))
        return True

    def close(self) -> None:
        for port in (self._consumer, self._producer):
            try:
                port.close()
            except Exception:
                # Nothing is lost by it, and it must not hide why the runner ends.
                log.exception("close failed")

    def _transact(self, outputs: Sequence[OutputBatch], first: Offsets, following: Offsets) -> bool:
        # 3. Begin.
        self._producer.begin()
        crash_point("after-begin")
        # 4. Produce.
        self._producer.produce(outputs)
        crash_point("after-produce")
        # 5. Make the participants' state durable, while the broker takes the records in.
        for participant in self._participants:
            participant.before_commit(following)
        crash_point("after-before-commit")
        # 6. Send the offsets.
        self._producer.send_offsets(following, self._consumer.group_metadata())
        crash_point("after-send-offsets")
        # 7. Commit.
        try:
            self._producer.commit()
        except CommitOutcomeUnknown as unknown:
            return self._settle(unknown, first, following)
        crash_point("after-commit")
        return True

    def _settle(self, unknown: CommitOutcomeUnknown, first: Offsets, following: Offsets) -> bool:
        """Find out whether the commit happened; where it did not, get ready to do the batch again."""
        log.warning("commit outcome unknown, replacing the producer", extra={"error": str(unknown)})
        self._replace_producer()
        crash_point("after-replace")
        committed = self._patiently(lambda: self._consumer.committed(list(following)))
        if all((committed[tp] or 0) >= offset for tp, offset in following.items()):
            log.info("the commit had happened")
            return True
        if any((committed[tp] or 0) > offset for tp, offset in first.items()):
            raise BrokerError(f"committed offsets {committed} lie inside the batch {first} to {following}")
        log.info("the commit had not happened")
        self._roll_back(first)
        return False

    def _try_again(self, error: BrokerError, first: Offsets) -> None:
        self._aborts_in_a_row += 1
        if not error.retriable or self._aborts_in_a_row >= self._limits.max_attempts:
            self._abort_quietly()
            raise error
        log.warning("batch aborted, trying again", extra={"error": str(error)})
        if self._aborts_in_a_row >= _TELLING_ABORTS:
            self._stats.degraded(f"aborted {self._aborts_in_a_row} times in a row: {error}")
        self._roll_back(first)
        self._clock.sleep(self._limits.backoff_s(self._aborts_in_a_row))

    def _roll_back(self, first: Offsets) -> None:
        """Abort if a transaction is open, and go back to where the batch began: that is what is committed."""
        try:
            self._producer.abort()
        except Fenced:
            raise
        except BrokerError as error:
            log.warning("abort failed, replacing the producer", extra={"error": str(error)})
            self._replace_producer()
        crash_point("after-abort")
        for participant in self._participants:
            participant.after_abort()
        self._consumer.seek(first)

    def _abort_quietly(self) -> None:
        """On the way out: readers need not wait for the transaction timeout."""
        try:
            self._producer.abort()
        except Exception:
            log.exception("abort failed")

    def _replace_producer(self) -> None:
        self._patiently(self._producer.replace)

    def _patiently(self, call: Callable[[], T]) -> T:
        """Wait out an outage of the broker, however long; give up only where the stage shall stop."""
        attempt = 0
        while True:
            try:
                result = call()
            except BrokerError as error:
                if not error.retriable or self._stop.is_set():
                    raise
                attempt += 1
                log.warning("waiting for the broker", extra={"error": str(error), "attempt": attempt})
                if self._stats.state != "starting":
                    self._stats.degraded(f"broker: {error}")
                self._clock.sleep(self._limits.backoff_s(attempt))
                continue
            if attempt and self._stats.state == "degraded" and not self._pauses.active:
                self._stats.ready()
            return result


def _merged(parts: Sequence[Mapping[TopicPartition, int]]) -> Offsets:
    return {tp: offset for part in parts for tp, offset in part.items()}
