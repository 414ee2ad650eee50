"""The ports between a pipeline and the broker: what they carry and what each call promises.

Offsets always name the *next* record to read, never the last one read.
Three adapters implement these ports: `streamkit.kafka` natively and through confluent-kafka, and
`streamkit.memory`. One conformance suite (`tests/conformance/`) runs against all.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

Headers = Sequence[tuple[str, bytes | None]]


class TopicPartition(NamedTuple):
    topic: str
    partition: int


@dataclass(frozen=True, slots=True)
class RecordBatch:
    """Records of one topic, one entry per record in each column; a partition's offsets ascend.

    `timestamp_ms` is the broker's timestamp. `headers[i]` is empty where a record has none. The sequences may
    be columns (`streamkit.columns`): `columns.take` picks rows of either.
    """

    topic: str
    partition: NDArray[np.int32]
    offset: NDArray[np.int64]
    timestamp_ms: NDArray[np.int64]
    key: Sequence[bytes | None]
    value: Sequence[bytes | None]
    headers: Sequence[Headers]

    def __len__(self) -> int:
        return len(self.value)

    def first_offsets(self) -> dict[TopicPartition, int]:
        """Where this batch begins, per partition that it touches."""
        return {
            TopicPartition(self.topic, int(p)): int(self.offset[self.partition == p].min())
            for p in np.unique(self.partition)
        }

    def next_offsets(self) -> dict[TopicPartition, int]:
        """Position after this batch, per partition that it touches."""
        return {
            TopicPartition(self.topic, int(p)): int(self.offset[self.partition == p].max()) + 1
            for p in np.unique(self.partition)
        }


@dataclass(frozen=True, slots=True)
class OutputBatch:
    """Records to produce to one topic.

    `partition` None means murmur2 of the key, as every Kafka client in this platform does it; records
    without key go anywhere. `headers` None means no headers.
    """

    topic: str
    value: Sequence[bytes | None]
    key: Sequence[bytes | None]
    headers: Sequence[Headers] | None = None
    partition: Sequence[int] | None = None

    def __len__(self) -> int:
        return len(self.value)


class BrokerError(Exception):
    """The broker refused or did not answer. `retriable`: the same call may succeed later."""

    def __init__(self, message: str, *, retriable: bool = False) -> None:
        super().__init__(message)
        self.retriable = retriable


class Fenced(BrokerError):  # noqa: N818 - reads as what happened
    """Another instance owns this transactional id or partition now: stop, change nothing."""


class TransactionAborted(BrokerError):  # noqa: N818 - reads as what happened
    """The transaction was rolled back; its records must be read and processed again."""


class CommitOutcomeUnknown(BrokerError):  # noqa: N818 - reads as what happened
    """A commit timed out: it may or may not have happened. The producer must be replaced, then the
    committed offsets tell which (librdkafka lacks KIP-890)."""


class Paused(Exception):  # noqa: N818 - an instruction to the runner, not a failure
    """Raised by a pipeline or sink that cannot go on with some partitions for now (registry or database
    down). Nothing of the batch may have happened; the runner tries it again after `retry_after_s`."""

    def __init__(self, partitions: Iterable[TopicPartition], reason: str, retry_after_s: float = 1.0) -> None:
        super().__init__(reason)
        self.partitions = frozenset(partitions)
        self.reason = reason
        self.retry_after_s = retry_after_s


class GroupMetadata(Protocol):
    """Opaque: from `Consumer.group_metadata` to `TransactionalProducer.send_offsets`."""


class Consumer(Protocol):
    def subscribe(
        self,
        topics: Sequence[str],
        *,
        on_assign: Callable[[Sequence[TopicPartition]], Mapping[TopicPartition, int] | None],
        on_revoke: Callable[[Sequence[TopicPartition]], None],
        on_lost: Callable[[Sequence[TopicPartition]], None],
    ) -> None:
        """Join the group. `on_assign` may return offsets to start from in place of the committed ones.
        Callbacks run inside `poll`, on the caller's thread. `on_lost`: the partitions are already
        somebody else's, commit nothing."""

    def poll(self, max_records: int, max_bytes: int, timeout_s: float, linger_s: float) -> list[RecordBatch]:
        """Wait up to `timeout_s` for a first record, then gather for up to `linger_s` or until a bound
        is reached. One batch per topic; read-committed only. An empty list means nothing came."""

    def pause(self, partitions: Sequence[TopicPartition]) -> None: ...

    def resume(self, partitions: Sequence[TopicPartition]) -> None: ...

    def assignment(self) -> list[TopicPartition]: ...

    def seek(self, offsets: Mapping[TopicPartition, int]) -> None:
        """The next `poll` reads from here; records gathered before are forgotten. Partitions that are not
        assigned are left out: their new owner starts from the committed offset."""

    def committed(self, partitions: Sequence[TopicPartition]) -> dict[TopicPartition, int | None]: ...

    def commit(self, offsets: Mapping[TopicPartition, int]) -> None:
        """Commit synchronously, outside any transaction (for sinks that keep offsets elsewhere)."""

    def lag(self) -> dict[TopicPartition, int]:
        """Offsets not yet passed by `poll`, per assigned partition; 0 at the end of the partition even
        where transaction markers follow the last record. Markers in between count, so it is an upper
        bound of the records that wait. Those of an open transaction may count or not."""

    def group_metadata(self) -> GroupMetadata: ...

    def close(self) -> None: ...


class Follower(Protocol):
    """Reads whole topics without a group, to keep their content in memory."""

    def open(self) -> None:
        """Begin at the first record of every partition. Raises `BrokerError`."""

    def poll(self, max_records: int, timeout_s: float) -> list[RecordBatch]:
        """Committed records, one batch per topic; waits up to `timeout_s` for a first one."""

    def at_end(self) -> bool:
        """Whether the end of every partition has been reached since `open`."""

    def close(self) -> None: ...


class Producer(Protocol):
    """Idempotent, without transactions."""

    def produce(self, batches: Sequence[OutputBatch], timeout_s: float) -> None:
        """Return once every record is acknowledged by the broker; raise `BrokerError` otherwise."""

    def close(self) -> None: ...


class TransactionalProducer(Protocol):
    """One per instance slot, with a stable transactional id."""

    def begin(self) -> None:
        """Open a transaction; initialises the client on first use, as `replace` does."""

    def produce(self, batches: Sequence[OutputBatch]) -> None:
        """Hand records over; their acknowledgement is awaited by `commit`."""

    def send_offsets(self, offsets: Mapping[TopicPartition, int], group: GroupMetadata) -> None:
        """Raises `TransactionAborted` where the group has moved on without this member."""

    def commit(self) -> None:
        """Raises `Fenced`, `TransactionAborted` (call `abort`) or `CommitOutcomeUnknown` (call `replace`)."""

    def abort(self) -> None:
        """Roll back; nothing happens where no transaction is open."""

    def replace(self) -> None:
        """Throw the client away and initialise a new one under the same transactional id; ends any
        transaction left open by the old one."""

    def close(self) -> None: ...


class Pipeline(Protocol):
    """A pure function from input records to output records. Rejected rows are output records too
    (quarantine as a value); an exception means that the service is broken and must stop."""

    def process(self, batch: RecordBatch) -> Sequence[OutputBatch]: ...


class Participant(Protocol):
    """Local state that commits with the Kafka transaction (the id store of quality)."""

    def assigned(self, offsets: Mapping[TopicPartition, int | None]) -> None:
        """Partitions arrive with their committed group offsets; restore state before returning."""

    def revoked(self, partitions: Sequence[TopicPartition]) -> None: ...

    def before_commit(self, next_offsets: Mapping[TopicPartition, int]) -> None:
        """Make the state of this batch durable; called after produce and before the Kafka commit."""

    def after_commit(self, next_offsets: Mapping[TopicPartition, int]) -> None: ...

    def after_abort(self) -> None:
        """The batch did not happen; it will be processed again from the committed offsets."""


class Sink(Protocol):
    """A store that keeps the Kafka offsets itself, in the same transaction as the rows."""

    def start_offsets(self, partitions: Sequence[TopicPartition]) -> Mapping[TopicPartition, int]:
        """The next offset by the store's own books; a partition it does not know yet is left out."""

    def write(self, batches: Sequence[RecordBatch]) -> None:
        """Store rows and next offsets atomically; raise `Paused` where the store cannot be reached."""


@dataclass(frozen=True, slots=True)
class NewTopic:
    name: str
    partitions: int
    config: Mapping[str, str] = field(default_factory=dict)
    replication_factor: int = 1


class Admin(Protocol):
    def ensure_topics(self, topics: Sequence[NewTopic]) -> None:
        """Create what is missing and set the configs; another partition count raises `BrokerError`, since
        a changed count moves keys."""

    def topic_ids(self, topics: Sequence[str]) -> dict[str, str]:
        """The topic's UUID in Kafka's base64 form: a topic that was deleted and made again has another."""

    def partitions(self, topic: str) -> list[TopicPartition]: ...

    def end_offsets(self, topic: str) -> dict[TopicPartition, int]:
        """High watermarks. Not a count: transaction markers occupy offsets."""

    def close(self) -> None: ...
