"""What a measurement of lag consists of. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from itertools import groupby
from typing import Any, NamedTuple

from streamkit.ports import TopicPartition


class Member(NamedTuple):
    """The group member that a partition is assigned to, as Kafka describes it; empty where there is none."""

    host: str = ""
    consumer_id: str = ""
    client_id: str = ""


NOBODY = Member()


@dataclass(frozen=True, slots=True)
class Position:
    """Where a group goes on reading a partition: `offset` is the next record, None before the first commit.

    `topic_id`: of the topic that the offset belongs to, where the group's own books say so.
    """

    group: str
    partition: TopicPartition
    offset: int | None
    member: Member = NOBODY
    topic_id: str | None = None


@dataclass(frozen=True, slots=True)
class Bounds:
    """Offsets of a partition: the first one kept, the next one to be written, and the end of what a
    read-committed consumer can see (the last stable offset)."""

    earliest: int
    latest: int
    stable: int


@dataclass(frozen=True, slots=True)
class PartitionLag:
    """`records`: unread records, or an upper bound of them where `exact` is False.

    `seconds`: the age of the first unread record, 0 when there is none, None where it could not be read.
    """

    position: Position
    records: int
    seconds: float | None
    exact: bool


@dataclass(frozen=True, slots=True)
class GroupLag:
    """The sum over a group's partitions, and its worst age."""

    group: str
    records: int
    seconds: float | None
    exact: bool


@dataclass(frozen=True, slots=True)
class Snapshot:
    """One measurement. `taken_ms`: when it began, in ms since 1970 UTC. `took_s`: how long it took."""

    taken_ms: int
    took_s: float
    bounds: Mapping[TopicPartition, Bounds] = field(default_factory=dict)
    partitions: tuple[PartitionLag, ...] = ()

    def groups(self) -> list[GroupLag]:
        """Sorted by name."""
        ordered = sorted(self.partitions, key=_group)
        return [_sum(name, list(rows)) for name, rows in groupby(ordered, key=_group)]

    def to_json(self) -> dict[str, Any]:
        """The body of `/lag`."""
        by_group = {
            name: [_row(each, self.bounds) for each in rows]
            for name, rows in groupby(sorted(self.partitions, key=_group), key=_group)
        }
        return {
            "taken_ms": self.taken_ms,
            "groups": [
                {
                    "group": total.group,
                    "lag": total.records,
                    "lag_seconds": total.seconds,
                    "exact": total.exact,
                    "partitions": by_group[total.group],
                }
                for total in self.groups()
            ],
        }


def committed_or(positions: Iterable[Position], ids: Mapping[str, str]) -> list[Position]:
    """Positions that belong to a topic of another id are none: that topic was deleted and made anew."""
    return [
        replace(p, offset=None) if p.topic_id not in (None, ids.get(p.partition.topic)) else p
        for p in positions
    ]


def _group(lag: PartitionLag) -> str:
    return lag.position.group


def _sum(name: str, rows: list[PartitionLag]) -> GroupLag:
    ages = [row.seconds for row in rows if row.seconds is not None]
    return GroupLag(
        group=name,
        records=sum(row.records for row in rows),
        seconds=max(ages) if len(ages) == len(rows) else None,
        exact=all(row.exact for row in rows),
    )


def _row(lag: PartitionLag, bounds: Mapping[TopicPartition, Bounds]) -> dict[str, Any]:
    position, at = lag.position, bounds[lag.position.partition]
    return {
        "topic": position.partition.topic,
        "partition": position.partition.partition,
        "offset": position.offset,
        "earliest_offset": at.earliest,
        "latest_offset": at.latest,
        "lag": lag.records,
        "lag_seconds": lag.seconds,
        "exact": lag.exact,
        "member_host": position.member.host,
        "consumer_id": position.member.consumer_id,
        "client_id": position.member.client_id,
    }
