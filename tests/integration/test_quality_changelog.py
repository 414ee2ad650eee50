"""Quality's changelog on a real broker: what was committed, from where it is asked for, and nothing else."""

from __future__ import annotations

import uuid

import polars as pl
import pytest

from deploy.local.testing import Servers
from quality_service.changelog import DecidedBatch
from quality_service.kafka_changelog import KafkaChangelog
from quality_service.store import StoreError
from schemas.catalogue import load_topics
from schemas.codec import Codec
from schemas.decisions import Outcome, pack
from schemas.registry import RegistryClient
from streamkit.kafka import KafkaAdmin, KafkaProducer, KafkaTransactionalProducer
from streamkit.ports import NewTopic, OutputBatch

DECISIONS = "sales.decisions.v1"
TOPIC_ID, EARLIER_ID = "the-raw-topic", "an-earlier-topic-of-this-name"
ROWS = 5
"""Raw records of each batch."""


class Decisions:
    """A decisions topic of its own."""

    def __init__(self, stack: Servers) -> None:
        registry, topic = RegistryClient(stack.registry), load_topics()[DECISIONS]
        self.topic = f"changelog-{uuid.uuid4().hex[:8]}.{DECISIONS}"
        self._kafka = stack.kafka
        self._schema_id = registry.register(topic.subject, topic.schema_text)
        self._codec = Codec(topic.schema_text, registry)
        admin = KafkaAdmin(stack.kafka)
        admin.ensure_topics([NewTopic(self.topic, 2)])
        admin.close()
        self.changelog = KafkaChangelog(stack.kafka, self.topic, self._codec)

    def batch(self, begin: int, topic_id: str = TOPIC_ID, partition: int = 0) -> OutputBatch:
        """The decisions of the raw records from `begin`."""
        rows = pl.DataFrame(
            {
                "offset": range(begin, begin + ROWS),
                "event_id": [
                    str(uuid.uuid5(uuid.NAMESPACE_OID, f"{topic_id} {begin + i}")) for i in range(ROWS)
                ],
                "content_hash": ["00" * 16] * ROWS,
                "outcome": [int(Outcome.ACCEPTED)] * ROWS,
                "reason": [None] * ROWS,
                "load_id": ["a-load"] * ROWS,
                "ingest_ts": [1_700_000_000_000] * ROWS,
                "amount_micros": [1] * ROWS,
            }
        )
        frame = pl.DataFrame(
            {
                "topic_id": [topic_id],
                "partition": [partition],
                "begin_offset": [begin],
                "end_offset": [begin + ROWS],
                "rows": [ROWS],
                "decided_ts": [1_700_000_000_000],
                "payload": [pack(rows)],
            }
        ).with_columns(
            pl.col("decided_ts").cast(pl.Datetime("ms")), pl.col("partition", "rows").cast(pl.Int32)
        )
        values = self._codec.encode(frame, self._schema_id)
        return OutputBatch(self.topic, values, [None], partition=[partition])

    def commit(self, *batches: OutputBatch, abort: bool = False) -> None:
        """Each in a transaction of its own, as quality writes them: markers lie between them."""
        producer = KafkaTransactionalProducer(self._kafka, f"{self.topic}.writer")
        for batch in batches:
            producer.begin()
            producer.produce([batch])
            if abort:
                producer.abort()
            else:
                producer.commit()
        producer.close()

    def raw(self, value: bytes) -> None:
        producer = KafkaProducer(self._kafka)
        producer.produce([OutputBatch(self.topic, [value], [None], partition=[0])], 10)
        producer.close()

    def read(self, after: int, partition: int = 0) -> list[DecidedBatch]:
        return list(self.changelog.read(TOPIC_ID, partition, after))


@pytest.fixture
def decisions(stack: Servers) -> Decisions:
    return Decisions(stack)


def begins(batches: list[DecidedBatch]) -> list[int]:
    return [batch.begin for batch in batches]


def test_a_partition_without_decisions_has_none(decisions: Decisions) -> None:
    assert decisions.read(-1) == []


def test_all_that_was_committed_is_read_in_order_with_its_rows(decisions: Decisions) -> None:
    decisions.commit(*(decisions.batch(begin) for begin in range(0, 50, ROWS)))
    found = decisions.read(-1)
    assert [(b.begin, b.end) for b in found] == [(b, b + ROWS) for b in range(0, 50, ROWS)]
    offsets = pl.concat([batch.rows for batch in found])["offset"].to_list()
    assert offsets == list(range(50))


def test_reading_goes_on_with_the_first_batch_that_ends_above_the_offset(decisions: Decisions) -> None:
    # Enough that the search by halving is used, markers and all.
    decisions.commit(*(decisions.batch(begin) for begin in range(0, 500, ROWS)))
    for after in (0, 1, 4, 5, 6, 253, 499, 500, 501):
        wanted = [begin for begin in range(0, 500, ROWS) if begin + ROWS > after]
        assert begins(decisions.read(after)) == wanted, after


def test_aborted_decisions_are_not_read(decisions: Decisions) -> None:
    decisions.commit(decisions.batch(0))
    decisions.commit(decisions.batch(ROWS), decisions.batch(ROWS), abort=True)
    decisions.commit(decisions.batch(ROWS))
    # Behind the last committed record lies nothing but what was aborted: the end is reached all the same.
    decisions.commit(decisions.batch(2 * ROWS), abort=True)
    assert begins(decisions.read(-1)) == [0, ROWS]
    assert begins(decisions.read(ROWS)) == [ROWS]


def test_decisions_about_an_earlier_topic_of_the_same_name_are_passed_over(decisions: Decisions) -> None:
    earlier = (decisions.batch(begin, EARLIER_ID) for begin in range(0, 200, ROWS))
    decisions.commit(*earlier, *(decisions.batch(begin) for begin in range(0, 100, ROWS)))
    assert begins(decisions.read(-1)) == list(range(0, 100, ROWS))
    assert begins(decisions.read(50)) == list(range(50, 100, ROWS))


def test_each_partition_is_read_for_itself(decisions: Decisions) -> None:
    decisions.commit(decisions.batch(0), decisions.batch(10, partition=1))
    assert begins(decisions.read(-1, partition=0)) == [0]
    assert begins(decisions.read(-1, partition=1)) == [10]


def test_what_was_committed_meanwhile_is_read_by_asking_again(decisions: Decisions) -> None:
    decisions.commit(decisions.batch(0))
    assert begins(decisions.read(-1)) == [0]
    decisions.commit(decisions.batch(ROWS))
    assert begins(decisions.read(ROWS)) == [ROWS]


def test_a_record_that_is_no_decision_stops_the_restore_by_its_place(decisions: Decisions) -> None:
    decisions.commit(decisions.batch(0))
    decisions.raw(b"no decisions")
    with pytest.raises(StoreError, match=rf"{decisions.topic}\[0\]@2 is no batch of decisions"):
        decisions.read(-1)


def test_a_broker_that_does_not_answer_stops_the_restore(
    decisions: Decisions, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("quality_service.kafka_changelog._SILENCE_S", 1.0)
    nowhere = KafkaChangelog("127.0.0.1:1", decisions.topic, decisions.changelog._codec)
    with pytest.raises(StoreError, match="cannot read the bounds"):
        list(nowhere.read(TOPIC_ID, 0, -1))
