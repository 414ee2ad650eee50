"""What the follower enters of raw records whose headers nobody vouches for."""

from __future__ import annotations

import numpy as np
import pytest

from quality_service.ledger.follow import RAW, Follower
from streamkit.memory import MemoryBroker, MemoryConsumer
from streamkit.ports import Headers, RecordBatch, TopicPartition


def test_hostile_rerouting_headers_enter_as_plain_receipts() -> None:
    headers: list[Headers] = [
        [("rerouted-from", b"abc")],
        [("rerouted-from", b"1:99999999999999999999")],
        [("rerouted-from", b"\xff:\xff"), ("load-id", b"\xff")],
        [("rerouted-from", b"2:7"), ("load-id", b"L1")],
        [],
    ]
    size = len(headers)
    follower = Follower(MemoryConsumer(MemoryBroker(), "ledger"), {})
    follower._enter(
        RecordBatch(
            RAW,
            np.zeros(size, np.int32),
            np.arange(size, dtype=np.int64),
            np.zeros(size, np.int64),
            [None] * size,
            [b""] * size,
            headers,
        )
    )
    frame = follower.books.raw.frame()
    assert frame["offset"].to_list() == [0, 1, 2, 3, 4]
    assert frame.row(3, named=True)["origin_offset"] == 7
    assert frame["load_id"].to_list() == [None, None, "\ufffd", "L1", None]
    assert frame["origin_offset"].to_list()[:3] == [0, 1, 2]


def test_partitions_that_were_lost_go_on_where_the_books_end() -> None:
    follower = Follower(MemoryConsumer(MemoryBroker(), "ledger"), {})
    first, other = TopicPartition(RAW, 0), TopicPartition(RAW, 1)
    assert follower._on_assign([first, other]) == {first: 0, other: 0}
    follower._enter(
        RecordBatch(
            RAW,
            np.zeros(2, np.int32),
            np.array([5, 6], np.int64),
            np.zeros(2, np.int64),
            [None, None],
            [b"", b""],
            [[], []],
        )
    )
    follower._on_lost([first, other])
    assert not follower.wait_until_caught_up(0.01)
    assert follower._on_assign([first, other]) == {first: 7, other: 0}


def test_partitions_that_another_ledger_took_end_the_ledger() -> None:
    follower = Follower(MemoryConsumer(MemoryBroker(), "ledger"), {})
    follower._on_assign([TopicPartition(RAW, 0)])
    with pytest.raises(RuntimeError, match="another ledger"):
        follower._on_revoke([TopicPartition(RAW, 0)])
