"""What only the broker in memory can be made to do; the rest is in the conformance suite."""

from __future__ import annotations

import pytest

from streamkit.clock import FakeClock
from streamkit.memory import (
    MemoryAdmin,
    MemoryBroker,
    MemoryConsumer,
    MemoryProducer,
    MemoryTransactionalProducer,
)
from streamkit.ports import BrokerError, Fenced, NewTopic, OutputBatch, TopicPartition

TP = TopicPartition("t", 0)


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def broker(clock: FakeClock) -> MemoryBroker:
    broker = MemoryBroker(clock)
    MemoryAdmin(broker).ensure_topics([NewTopic("t", 1)])
    return broker


def one(value: bytes) -> list[OutputBatch]:
    return [OutputBatch("t", [value], [None])]


def test_an_open_transaction_is_aborted_and_fenced_after_its_timeout(
    broker: MemoryBroker, clock: FakeClock
) -> None:
    hanging = MemoryTransactionalProducer(broker, "slot")
    hanging.begin()
    hanging.produce(one(b"hanging"))
    MemoryProducer(broker).produce(one(b"plain"), 1)
    assert broker.committed_records("t") == []
    clock.advance(10.0)
    assert [r.value for r in broker.committed_records("t")] == [b"plain"]
    with pytest.raises(Fenced):
        hanging.commit()


def test_a_member_without_session_loses_its_partitions_to_the_next(broker: MemoryBroker) -> None:
    events: list[str] = []
    members = []
    for name in ("first", "second"):
        member = MemoryConsumer(broker, "g")
        member.subscribe(
            ["t"],
            on_assign=lambda tps, name=name: events.append(f"{name} assigned {len(tps)}"),  # type: ignore[misc]
            on_revoke=lambda _, name=name: events.append(f"{name} revoked"),  # type: ignore[misc]
            on_lost=lambda _, name=name: events.append(f"{name} lost"),  # type: ignore[misc]
        )
        members.append(member)
    first, second = members
    first.poll(1, 1, 0, 0)
    second.poll(1, 1, 0, 0)
    first.lose_session()
    second.poll(1, 1, 0, 0)
    with pytest.raises(BrokerError):
        first.commit({TP: 1})
    first.poll(1, 1, 0, 0)
    told = ["first assigned 1", "second assigned 0", "second assigned 1", "first lost", "first assigned 0"]
    assert events == told


def test_an_unreachable_broker_fails_every_call_and_forgets_nothing(broker: MemoryBroker) -> None:
    producer = MemoryTransactionalProducer(broker, "slot")
    producer.begin()
    producer.produce(one(b"a"))
    broker.down = True
    for call in (producer.commit, producer.abort, producer.replace):
        with pytest.raises(BrokerError) as raised:
            call()
        assert raised.value.retriable
    broker.down = False
    producer.commit()
    assert [r.value for r in broker.committed_records("t")] == [b"a"]


def test_a_lost_answer_comes_after_the_deed(broker: MemoryBroker) -> None:
    producer = MemoryProducer(broker)
    broker.fail_next("produce", BrokerError("no answer", retriable=True), after=True)
    with pytest.raises(BrokerError):
        producer.produce(one(b"a"), 1)
    assert [r.value for r in broker.committed_records("t")] == [b"a"]
