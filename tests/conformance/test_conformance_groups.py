"""Both brokers: who reads which partition, from where, and who is told."""

from __future__ import annotations

from streamkit.ports import TopicPartition
from tests.conformance.backends import (
    Backend,
    Reader,
    new_topic,
    numbered,
    poll_both,
    records,
    send,
    unique,
    wait_until,
)


def test_a_joining_member_takes_its_share_and_gives_it_back(backend: Backend) -> None:
    topic, group = new_topic(backend, partitions=4), unique("group")
    everything = frozenset(TopicPartition(topic, p) for p in range(4))
    first = Reader(backend.consumer(group), topic)
    first.join(4)
    assert first.callbacks[0] == ("assign", everything)

    second = Reader(backend.consumer(group), topic)
    wait_until(
        lambda: len(first.consumer.assignment()) == len(second.consumer.assignment()) == 2,
        meanwhile=poll_both(first, second),
        what="two partitions each",
    )
    moved = frozenset(second.consumer.assignment())
    assert moved | set(first.consumer.assignment()) == everything
    # Cooperative: only what moves is revoked.
    assert ("revoke", moved) in first.callbacks

    second.consumer.close()
    assert ("revoke", moved) in second.callbacks
    first.join(4)
    assert ("assign", moved) in first.callbacks


def test_partitions_that_stay_keep_flowing_and_moved_ones_go_on_from_the_commit(backend: Backend) -> None:
    topic, group = new_topic(backend, partitions=2), unique("group")
    send(backend, records(topic, numbered(0, 10), 0), records(topic, numbered(0, 10), 1))
    first = Reader(backend.consumer(group), topic)
    first.read(20)
    first.consumer.commit({TopicPartition(topic, p): 10 for p in (0, 1)})
    second = Reader(backend.consumer(group), topic)
    wait_until(
        lambda: len(first.consumer.assignment()) == len(second.consumer.assignment()) == 1,
        meanwhile=poll_both(first, second),
        what="one partition each",
    )
    send(backend, records(topic, numbered(10, 20), 0), records(topic, numbered(10, 20), 1))
    first.read(10)
    second.read(10)
    ids = [(r.partition, r.value) for r in first.records + second.records]
    assert sorted(ids) == sorted((p, v) for p in (0, 1) for v in numbered(0, 20))


def test_records_gathered_before_a_revocation_are_not_returned_after_it(backend: Backend) -> None:
    topic, group = new_topic(backend, partitions=2), unique("group")
    send(backend, records(topic, numbered(0, 50), 0), records(topic, numbered(0, 50), 1))
    first = Reader(backend.consumer(group), topic)
    first.read(2, max_bytes=1)  # leaves records gathered and not returned
    second = Reader(backend.consumer(group), topic)
    wait_until(
        lambda: len(first.consumer.assignment()) == len(second.consumer.assignment()) == 1,
        meanwhile=poll_both(first, second, max_bytes=1),
        what="one partition each",
    )
    (kept,) = first.consumer.assignment()
    before = len(first.records)
    wait_until(
        lambda: sum(r.partition == kept.partition for r in first.records) == 50,
        meanwhile=first.poll,
        what="the partition that stayed",
    )
    assert {r.partition for r in first.records[before:]} == {kept.partition}
    second.read(50 - len(second.records))
    assert second.values == numbered(0, 50)


def test_on_assign_may_say_where_to_start(backend: Backend) -> None:
    topic, group = new_topic(backend, partitions=2), unique("group")
    send(backend, records(topic, numbered(0, 10), 0), records(topic, numbered(0, 10), 1))
    reader = Reader(backend.consumer(group), topic, starts={TopicPartition(topic, 1): 8})
    reader.read(12)
    assert [r.offset for r in reader.records if r.partition == 0] == list(range(10))
    assert [r.offset for r in reader.records if r.partition == 1] == [8, 9]


def test_a_new_group_starts_at_the_beginning_and_an_old_one_after_its_commit(backend: Backend) -> None:
    topic, group = new_topic(backend), unique("group")
    tp = TopicPartition(topic, 0)
    send(backend, records(topic, numbered(0, 10)))
    first = Reader(backend.consumer(group), topic)
    assert first.consumer.committed([tp]) == {tp: None}
    first.read(10)
    first.consumer.commit({tp: 3})
    assert first.consumer.committed([tp]) == {tp: 3}
    first.consumer.close()
    second = Reader(backend.consumer(group), topic)
    assert [r.offset for r in second.read(7)] == list(range(3, 10))


def test_a_partition_paused_before_it_left_flows_when_it_returns(backend: Backend) -> None:
    topic, group = new_topic(backend, partitions=2), unique("group")
    first = Reader(backend.consumer(group), topic)
    first.join(2)
    first.consumer.pause([TopicPartition(topic, 0), TopicPartition(topic, 1)])
    second = Reader(backend.consumer(group), topic)
    wait_until(
        lambda: len(first.consumer.assignment()) == len(second.consumer.assignment()) == 1,
        meanwhile=poll_both(first, second),
        what="one partition each",
    )
    (moved,) = second.consumer.assignment()
    second.consumer.close()
    first.join(2)
    send(backend, records(topic, numbered(0, 5), moved.partition))
    assert {r.partition for r in first.read(5)} == {moved.partition}


def test_two_groups_read_everything_each(backend: Backend) -> None:
    topic = new_topic(backend, partitions=2)
    send(backend, records(topic, numbered(0, 10), 0), records(topic, numbered(10, 20), 1))
    for _ in range(2):
        reader = Reader(backend.consumer(unique("group")), topic)
        assert sorted(int(r.value or b"") for r in reader.read(20)) == list(range(20))


def test_a_member_without_partitions_is_told_so(backend: Backend) -> None:
    """A standby has to know that it is one: it is ready."""
    topic, group = new_topic(backend), unique("group")
    first = Reader(backend.consumer(group), topic)
    first.join(1)
    second = Reader(backend.consumer(group), topic)
    wait_until(
        lambda: ("assign", frozenset()) in second.callbacks or bool(second.consumer.assignment()),
        meanwhile=poll_both(first, second),
        what="an empty assignment",
    )
    assert second.callbacks[0] == ("assign", frozenset())
