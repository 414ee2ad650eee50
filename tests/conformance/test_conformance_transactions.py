"""Both brokers: what a transaction shows, hides and carries, and who may end it."""

from __future__ import annotations

import pytest

from streamkit.ports import Fenced, TopicPartition, TransactionAborted
from tests.conformance.backends import (
    Backend,
    Reader,
    abort_on_arrival,
    in_transaction,
    new_topic,
    numbered,
    poll_both,
    records,
    send,
    unique,
    wait_until,
)


def test_committed_records_appear_and_aborted_ones_never(backend: Backend) -> None:
    topic = new_topic(backend, partitions=2)
    producer = backend.transactional(unique("slot"))
    in_transaction(producer, records(topic, [b"a"], 0), records(topic, [b"b"], 1))
    abort_on_arrival(backend, producer, topic)
    in_transaction(producer, records(topic, [b"c"], 0), records(topic, [b"d"], 1))
    read = Reader(backend.consumer(unique("group")), topic).read(4)
    assert sorted((r.partition, r.value) for r in read) == [(0, b"a"), (0, b"c"), (1, b"b"), (1, b"d")]


def test_an_open_transaction_holds_its_readers_back(backend: Backend) -> None:
    topic = new_topic(backend)
    producer = backend.transactional(unique("slot"))
    producer.begin()
    producer.produce([records(topic, [b"in transaction"])])
    reader = Reader(backend.consumer(unique("group")), topic)
    reader.join(1)
    for _ in range(5):
        reader.poll()
    assert reader.records == []
    producer.commit()
    assert [r.value for r in reader.read(1)] == [b"in transaction"]


def test_offsets_commit_with_the_transaction(backend: Backend) -> None:
    source, target = new_topic(backend), new_topic(backend)
    tp = TopicPartition(source, 0)
    send(backend, records(source, numbered(0, 10)))
    reader = Reader(backend.consumer(unique("group")), source)
    reader.read(10)
    producer = backend.transactional(unique("slot"))

    producer.begin()
    producer.produce([records(target, [b"x"])])
    producer.send_offsets({tp: 4}, reader.consumer.group_metadata())
    producer.abort()
    assert reader.consumer.committed([tp]) == {tp: None}

    producer.begin()
    producer.produce([records(target, [b"y"])])
    producer.send_offsets({tp: 7}, reader.consumer.group_metadata())
    producer.commit()
    assert reader.consumer.committed([tp]) == {tp: 7}


def test_a_transaction_of_offsets_alone_commits(backend: Backend) -> None:
    source = new_topic(backend)
    tp = TopicPartition(source, 0)
    send(backend, records(source, numbered(0, 3)))
    reader = Reader(backend.consumer(unique("group")), source)
    reader.read(3)
    producer = backend.transactional(unique("slot"))
    producer.begin()
    producer.produce([])
    producer.send_offsets({tp: 3}, reader.consumer.group_metadata())
    producer.commit()
    assert reader.consumer.committed([tp]) == {tp: 3}


def test_an_aborted_batch_is_read_again(backend: Backend) -> None:
    source, target = new_topic(backend), new_topic(backend)
    tp = TopicPartition(source, 0)
    send(backend, records(source, numbered(0, 20)))
    reader = Reader(backend.consumer(unique("group")), source)
    producer = backend.transactional(unique("slot"))
    for attempt in ("abort", "commit"):
        read = reader.read(20, max_records=20)
        producer.begin()
        producer.produce([records(target, [r.value for r in read])])
        producer.send_offsets({tp: 20}, reader.consumer.group_metadata())
        if attempt == "abort":
            producer.abort()
            reader.consumer.seek({tp: 0})
        else:
            producer.commit()
    out = Reader(backend.consumer(unique("group")), target).read(20)
    assert [r.value for r in out] == numbered(0, 20)


def test_a_new_member_goes_on_after_the_last_commit(backend: Backend) -> None:
    source, group, slot = new_topic(backend), unique("group"), unique("slot")
    send(backend, records(source, numbered(0, 10)))
    first = Reader(backend.consumer(group), source)
    first.read(10)
    producer = backend.transactional(slot)
    producer.begin()
    producer.send_offsets({TopicPartition(source, 0): 6}, first.consumer.group_metadata())
    producer.commit()
    first.consumer.close()
    second = Reader(backend.consumer(group), source)
    assert [r.offset for r in second.read(4)] == [6, 7, 8, 9]


def test_a_zombie_producer_is_fenced(backend: Backend) -> None:
    topic, slot = new_topic(backend), unique("slot")
    zombie, successor = backend.transactional(slot), backend.transactional(slot)
    zombie.begin()
    zombie.produce([records(topic, [b"zombie"])])
    successor.replace()
    with pytest.raises(Fenced):
        zombie.commit()
    in_transaction(successor, records(topic, [b"successor"]))
    read = Reader(backend.consumer(unique("group")), topic).read(1)
    assert [r.value for r in read] == [b"successor"]


def test_replace_ends_a_transaction_left_open(backend: Backend) -> None:
    topic, slot = new_topic(backend), unique("slot")
    killed = backend.transactional(slot)
    killed.begin()
    killed.produce([records(topic, [b"left open"])])
    successor = backend.transactional(slot)
    successor.replace()
    in_transaction(successor, records(topic, [b"after"]))
    read = Reader(backend.consumer(unique("group")), topic).read(1)
    assert [r.value for r in read] == [b"after"]


def test_replace_throws_away_the_own_open_transaction(backend: Backend) -> None:
    topic = new_topic(backend)
    producer = backend.transactional(unique("slot"))
    producer.begin()
    producer.produce([records(topic, [b"void"])])
    producer.replace()
    in_transaction(producer, records(topic, [b"after"]))
    read = Reader(backend.consumer(unique("group")), topic).read(1)
    assert [r.value for r in read] == [b"after"]


def test_abort_without_a_transaction_does_nothing(backend: Backend) -> None:
    topic = new_topic(backend)
    producer = backend.transactional(unique("slot"))
    producer.abort()
    in_transaction(producer, records(topic, [b"a"]))
    producer.abort()
    read = Reader(backend.consumer(unique("group")), topic).read(1)
    assert [r.value for r in read] == [b"a"]


@pytest.mark.parametrize("last", ["commit", "abort"])
def test_lag_is_zero_where_markers_follow_the_last_record(backend: Backend, last: str) -> None:
    topic = new_topic(backend)
    tp = TopicPartition(topic, 0)
    producer = backend.transactional(unique("slot"))
    for i in range(3):
        in_transaction(producer, records(topic, [b"%d" % i]))
    if last == "abort":
        abort_on_arrival(backend, producer, topic)
    reader = Reader(backend.consumer(unique("group")), topic)
    reader.read(3)
    assert backend.admin().end_offsets(topic)[tp] > reader.records[-1].offset + 1
    wait_until(lambda: reader.consumer.lag() == {tp: 0}, meanwhile=reader.poll, what="lag 0")


def test_lag_returns_to_zero_after_an_abort_behind_a_reader_at_the_end(backend: Backend) -> None:
    topic = new_topic(backend)
    tp = TopicPartition(topic, 0)
    producer = backend.transactional(unique("slot"))
    in_transaction(producer, records(topic, [b"a"]))
    reader = Reader(backend.consumer(unique("group")), topic)
    reader.read(1)
    abort_on_arrival(backend, producer, topic)
    in_transaction(producer, records(topic, [b"b"]))
    abort_on_arrival(backend, producer, topic)
    reader.read(1)
    # The broker answers an abort before its marker is in the log.
    wait_until(
        lambda: backend.admin().end_offsets(topic)[tp] == 8,
        meanwhile=reader.poll,
        what="both markers in the log",
    )
    wait_until(lambda: reader.consumer.lag() == {tp: 0}, meanwhile=reader.poll, what="lag 0")
    assert reader.values == [b"a", b"b"]


def test_offsets_of_a_partition_that_moved_away_are_refused(backend: Backend) -> None:
    source, target, group = new_topic(backend, partitions=2), new_topic(backend), unique("group")
    send(backend, records(source, numbered(0, 5), 0), records(source, numbered(0, 5), 1))
    slow = Reader(backend.consumer(group), source)
    slow.read(10)
    stale = slow.consumer.group_metadata()
    joiner = Reader(backend.consumer(group), source)
    wait_until(
        lambda: len(slow.consumer.assignment()) == len(joiner.consumer.assignment()) == 1,
        meanwhile=poll_both(slow, joiner),
        what="rebalance",
    )
    (moved,) = joiner.consumer.assignment()
    producer = backend.transactional(unique("slot"))
    producer.begin()
    producer.produce([records(target, [b"twice"])])
    with pytest.raises(TransactionAborted):
        producer.send_offsets({moved: 5}, stale)
    producer.abort()
    in_transaction(producer, records(target, [b"after"]))
    assert joiner.consumer.committed([moved]) == {moved: None}
    read = Reader(backend.consumer(unique("group")), target).read(1)
    assert [r.value for r in read] == [b"after"]
