"""Both brokers: order, bounds, positions and what a record carries."""

from __future__ import annotations

import os

import pytest

from schemas.hashing import murmur2_partition
from streamkit.ports import BrokerError, Headers, NewTopic, OutputBatch, TopicPartition
from tests.conformance.backends import (
    Backend,
    Reader,
    new_topic,
    numbered,
    records,
    send,
    unique,
    wait_until,
)


def test_records_of_a_key_keep_their_order(backend: Backend) -> None:
    topic = new_topic(backend, partitions=3)
    producer = backend.producer()
    for start in range(0, 3000, 500):
        values = numbered(start, start + 500)
        keys = [b"key-%d" % (i % 7) for i in range(start, start + 500)]
        headers = [[("n", v)] for v in values] if start % 1000 else None
        producer.produce([OutputBatch(topic, values, keys, headers)], 30)
    reader = Reader(backend.consumer(unique("group")), topic)
    read = reader.read(3000)
    for k in range(7):
        of_key = [int(r.value or b"") for r in read if r.key == b"key-%d" % k]
        assert of_key == list(range(k, 3000, 7))
    for p in range(3):
        offsets = [r.offset for r in read if r.partition == p]
        assert offsets == sorted(set(offsets))


def test_keyed_records_lie_where_murmur2_says(backend: Backend) -> None:
    topic = new_topic(backend, partitions=5)
    keys = [os.urandom(n % 40) for n in range(200)]
    send(backend, OutputBatch(topic, keys, keys), OutputBatch(topic, keys, keys, headers=[()] * 200))
    read = Reader(backend.consumer(unique("group")), topic).read(400)
    assert [r.partition for r in read] == list(murmur2_partition([r.key for r in read], 5))


def test_an_explicit_partition_is_honoured(backend: Backend) -> None:
    topic = new_topic(backend, partitions=4)
    values = numbered(0, 40)
    partitions = [i % 4 for i in range(40)]
    send(backend, OutputBatch(topic, values, values, partition=partitions))
    read = Reader(backend.consumer(unique("group")), topic).read(40)
    assert {r.value: r.partition for r in read} == dict(zip(values, partitions, strict=True))


def test_keys_values_and_headers_come_back_as_they_were(backend: Backend) -> None:
    topic = new_topic(backend)
    values = [b"v", None, b"", b"\x00\xff", None]
    keys = [b"k", b"k", None, b"", None]
    headers: list[Headers] = [
        [("a", b"1"), ("b", None), ("a", b"2")],
        [],
        [("empty", b"")],
        [("ingest-ts", b"1700000000000")],
        [("ü", b"\x00\xff")],
    ]
    send(
        backend,
        OutputBatch(topic, values, keys, headers, partition=[0] * 5),
        OutputBatch(topic, values, keys, None, partition=[0] * 5),
    )
    read = Reader(backend.consumer(unique("group")), topic).read(10)
    assert [r.value for r in read] == values * 2
    assert [r.key for r in read] == keys * 2
    assert [list(r.headers) for r in read] == [*headers, [], [], [], [], []]


def test_headers_come_back_out_of_a_transaction_too(backend: Backend) -> None:
    topic = new_topic(backend)
    producer = backend.transactional(unique("slot"))
    producer.begin()
    producer.produce([OutputBatch(topic, [b"v", None], [None, b"k"], [[("h", b"1")], []], partition=[0, 0])])
    producer.commit()
    read = Reader(backend.consumer(unique("group")), topic).read(2)
    assert [(r.value, r.key, list(r.headers)) for r in read] == [
        (b"v", None, [("h", b"1")]),
        (None, b"k", []),
    ]


def test_big_records_come_through_one_at_a_time(backend: Backend) -> None:
    topic = new_topic(backend)
    big = [os.urandom(20 << 20), os.urandom(20 << 20)]
    send(backend, records(topic, [b"small", *big, b"after"]))
    reader = Reader(backend.consumer(unique("group")), topic)
    reader.read(4, max_bytes=16 << 20)
    assert reader.values == [b"small", *big, b"after"]
    assert reader.sizes == [1, 1, 1, 1]


def test_a_record_over_the_limit_is_refused(backend: Backend) -> None:
    topic = new_topic(backend)
    with pytest.raises(BrokerError):
        send(backend, records(topic, [bytes(33 << 20)]))


def test_a_poll_stays_within_its_bounds(backend: Backend) -> None:
    topic = new_topic(backend)
    send(backend, records(topic, [b"%05d" % i for i in range(1000)]))
    by_count = Reader(backend.consumer(unique("group")), topic)
    by_count.read(1000, max_records=64)
    by_bytes = Reader(backend.consumer(unique("group")), topic)
    by_bytes.read(1000, max_bytes=333)
    for reader, bound in ((by_count, 64), (by_bytes, 333 // 5)):
        assert [int(v or b"") for v in reader.values] == list(range(1000))
        assert max(reader.sizes) == bound


def test_a_poll_brings_one_batch_per_topic(backend: Backend) -> None:
    topics = [new_topic(backend, partitions=2) for _ in range(3)]
    for topic in topics:
        send(backend, records(topic, numbered(0, 50), 0), records(topic, numbered(50, 100), 1))
    consumer = backend.consumer(unique("group"))
    reader = Reader(consumer, *topics)
    reader.join(6)
    wait_until(lambda: len(reader.records) == 300, meanwhile=reader.poll, what="all records")
    for topic in topics:
        assert sorted(int(r.value or b"") for r in reader.records if r.topic == topic) == list(range(100))


def test_seek_reads_again_from_there(backend: Backend) -> None:
    topic = new_topic(backend)
    send(backend, records(topic, numbered(0, 100)))
    reader = Reader(backend.consumer(unique("group")), topic)
    reader.read(100, max_records=30)
    reader.consumer.seek({TopicPartition(topic, 0): 40})
    assert [r.offset for r in reader.read(60)] == list(range(40, 100))


def test_seek_forgets_what_was_gathered_and_not_returned(backend: Backend) -> None:
    topic = new_topic(backend)
    send(backend, records(topic, numbered(0, 100)))
    reader = Reader(backend.consumer(unique("group")), topic)
    reader.read(3, max_bytes=3)
    reader.consumer.seek({TopicPartition(topic, 0): 90})
    assert [r.offset for r in reader.read(10)] == list(range(90, 100))


def test_seek_of_a_partition_of_another_member_is_left_out(backend: Backend) -> None:
    topic = new_topic(backend)
    send(backend, records(topic, numbered(0, 3)))
    reader = Reader(backend.consumer(unique("group")), topic)
    reader.read(3)
    reader.consumer.seek({TopicPartition("elsewhere", 7): 1, TopicPartition(topic, 0): 2})
    assert [r.offset for r in reader.read(1)] == [2]


def test_a_paused_partition_rests_and_loses_nothing(backend: Backend) -> None:
    topic = new_topic(backend, partitions=2)
    first, second = TopicPartition(topic, 0), TopicPartition(topic, 1)
    send(backend, records(topic, numbered(0, 100), 0), records(topic, numbered(0, 100), 1))
    reader = Reader(backend.consumer(unique("group")), topic)
    reader.read(10, max_bytes=5)  # leaves records gathered and not returned
    reader.consumer.pause([first])
    before = sum(r.partition == 0 for r in reader.records)
    wait_until(
        lambda: sum(r.partition == 1 for r in reader.records) == 100,
        meanwhile=reader.poll,
        what="the other partition",
    )
    send(backend, records(topic, numbered(100, 110), 0), records(topic, numbered(100, 110), 1))
    reader.read(10)
    assert sum(r.partition == 0 for r in reader.records) == before
    assert reader.consumer.lag() == {first: 110 - before, second: 0}
    reader.consumer.resume([first])
    reader.read(110 - before)
    for p in (0, 1):
        assert [int(r.value or b"") for r in reader.records if r.partition == p] == list(range(110))


def test_seek_while_paused_holds_after_resume(backend: Backend) -> None:
    topic = new_topic(backend)
    tp = TopicPartition(topic, 0)
    send(backend, records(topic, numbered(0, 100)))
    reader = Reader(backend.consumer(unique("group")), topic)
    reader.read(50, max_records=50)
    reader.consumer.seek({tp: 20})
    reader.consumer.pause([tp])
    reader.poll()
    reader.consumer.resume([tp])
    assert [r.offset for r in reader.read(80)] == list(range(20, 100))
    reader.consumer.pause([tp])
    reader.consumer.seek({tp: 70})
    reader.poll()
    assert len(reader.records) == 130
    reader.consumer.resume([tp])
    assert [r.offset for r in reader.read(30)] == list(range(70, 100))


def test_lag_is_what_is_left_to_read(backend: Backend) -> None:
    topic = new_topic(backend)
    tp = TopicPartition(topic, 0)
    send(backend, records(topic, numbered(0, 100)))
    reader = Reader(backend.consumer(unique("group")), topic)
    reader.read(30, max_records=30)
    assert reader.consumer.lag() == {tp: 70}
    reader.read(70)
    wait_until(lambda: reader.consumer.lag() == {tp: 0}, meanwhile=reader.poll, what="lag 0")
    send(backend, records(topic, numbered(0, 5)))
    reader.read(5)
    wait_until(lambda: reader.consumer.lag() == {tp: 0}, meanwhile=reader.poll, what="lag 0")


def test_topics_have_ids_and_keep_their_partitions(backend: Backend) -> None:
    admin = backend.admin()
    one, other = new_topic(backend, partitions=2), new_topic(backend)
    ids = admin.topic_ids([one, other])
    assert ids.keys() == {one, other}
    assert len({*ids.values()}) == 2
    assert all(len(topic_id) == 22 for topic_id in ids.values())
    admin.ensure_topics([NewTopic(one, 2, {"max.message.bytes": "33554432"})])
    assert admin.topic_ids([one, other]) == ids
    assert admin.partitions(one) == [TopicPartition(one, 0), TopicPartition(one, 1)]
    with pytest.raises(BrokerError):
        admin.ensure_topics([NewTopic(one, 3)])


def test_produce_returns_once_the_broker_has_it_all(backend: Backend) -> None:
    topic = new_topic(backend, partitions=2)
    send(backend, records(topic, numbered(0, 700), 0), records(topic, numbered(0, 300), 1))
    assert backend.admin().end_offsets(topic) == {
        TopicPartition(topic, 0): 700,
        TopicPartition(topic, 1): 300,
    }
