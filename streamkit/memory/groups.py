"""Consumer groups: members, who owns which partition, committed offsets."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import count

from streamkit.ports import TopicPartition


@dataclass(frozen=True, slots=True)
class MemberMetadata:
    """What `Consumer.group_metadata` gives: void once the member is expelled."""

    group: str
    member: int


@dataclass(slots=True)
class Member:
    topics: tuple[str, ...]
    owned: set[TopicPartition] = field(default_factory=set)


class Group:
    """Assigns cooperatively: a partition moves in two steps, first given up by its owner, then taken.

    Each step happens in the poll of the member that it concerns, as with a real client.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self.committed: dict[TopicPartition, int] = {}
        self._members: dict[int, Member] = {}
        self._target: dict[TopicPartition, int] = {}
        self._ids = count(1)

    def join(self, topics: Sequence[str], partitions: Sequence[TopicPartition]) -> int:
        member = next(self._ids)
        self._members[member] = Member(tuple(topics))
        self._rebalance(partitions)
        return member

    def leave(self, member: int, partitions: Sequence[TopicPartition]) -> None:
        """Of its own will or expelled: what it owned is free at once."""
        if self._members.pop(member, None) is not None:
            self._rebalance(partitions)

    def knows(self, member: int) -> bool:
        return member in self._members

    def topics(self) -> set[str]:
        return {topic for member in self._members.values() for topic in member.topics}

    def owned(self, member: int) -> set[TopicPartition]:
        return self._members[member].owned if member in self._members else set()

    def to_give_up(self, member: int) -> list[TopicPartition]:
        return sorted(tp for tp in self.owned(member) if self._target.get(tp) != member)

    def to_take(self, member: int) -> list[TopicPartition]:
        owned = {tp for each in self._members.values() for tp in each.owned}
        return sorted(tp for tp, owner in self._target.items() if owner == member and tp not in owned)

    def give_up(self, member: int, partitions: Iterable[TopicPartition]) -> None:
        self.owned(member).difference_update(partitions)

    def take(self, member: int, partitions: Iterable[TopicPartition]) -> None:
        self._members[member].owned.update(partitions)

    def may_commit(self, member: int, partitions: Iterable[TopicPartition]) -> bool:
        return self.knows(member) and set(partitions) <= self.owned(member)

    def _rebalance(self, partitions: Sequence[TopicPartition]) -> None:
        """Spread evenly and move as little as possible."""
        members = sorted(self._members)
        self._target = {
            tp: owner for tp in partitions for owner in members if tp in self._members[owner].owned
        }
        if not members:
            return
        load = {member: sum(owner == member for owner in self._target.values()) for member in members}
        for tp in (tp for tp in partitions if tp not in self._target):
            self._give(tp, min(members, key=lambda member: load[member]), load)
        while max(load.values()) - min(load.values()) > 1:
            fullest = max(members, key=lambda member: load[member])
            moved = max(tp for tp, owner in self._target.items() if owner == fullest)
            load[fullest] -= 1
            self._give(moved, min(members, key=lambda member: load[member]), load)

    def _give(self, tp: TopicPartition, member: int, load: dict[int, int]) -> None:
        self._target[tp] = member
        load[member] += 1
