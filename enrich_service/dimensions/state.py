"""All versions of all members, in memory; the compacted topics are where they are kept.

Protocol, for each batch (a `streamkit.ports.Participant`):

1. `advance` works out the versions after the batch and holds them beside the committed ones.
2. The runner produces those that differ in the transaction that carries the input offsets.
3. It commits: versions and offsets become visible together, or neither does.
4. `after_commit` puts what is held into place; `after_abort` forgets it.

There is nothing to make durable before 3: a process that starts reads the topics. By then its producer has
ended the transaction that the last process left open, so it reads all that was committed. A history is a
function of the set of changes, so records that are read again after that change nothing.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence

import polars as pl

from enrich_service.countries import CountryTable
from enrich_service.dimensions.history import FIRST
from enrich_service.dimensions.members import INSTANT, Member
from enrich_service.dimensions.revision import Step, advance
from enrich_service.versions import applied
from schemas.codec import Codec
from schemas.identity import SPECIAL_MEMBER
from streamkit.clock import Clock
from streamkit.ports import Follower, TopicPartition

_CHUNK = 20_000
_POLL_S = 0.05

_log = logging.getLogger(__name__)


class StateLost(Exception):  # noqa: N818 - reads as what happened
    """The changes of a table were read up to some offset, but what was made of them is gone."""


class DimensionState:
    """Used by the runner's thread; `current` may be asked by any."""

    def __init__(
        self,
        members: Mapping[Member, Codec],
        follower: Callable[[Sequence[str]], Follower],
        countries: CountryTable,
        clock: Clock,
    ) -> None:
        """`members`: each with the codec of its topic. `follower` makes a reader of topics."""
        self._codecs = dict(members)
        self._follower = follower
        self._countries = countries
        self._clock = clock
        self._committed: dict[Member, pl.DataFrame] = {}
        self._working: dict[Member, pl.DataFrame] = {}
        self._rekeying = False
        self._rekeyings = 0

    def current(self, member: Member) -> pl.DataFrame:
        """The committed versions, with the columns of the topic."""
        return self._committed.get(member, self._empty(member))

    def advance(self, member: Member, changes: pl.DataFrame, sightings: pl.DataFrame) -> Step:
        """What the batch changes. Held until the commit; several steps of one transaction add up."""
        step = advance(
            self._working.get(member, self._empty(member)),
            changes,
            sightings,
            member=member,
            countries=self._countries,
            now_ms=self._clock.now_ms(),
        )
        if len(step.withdrawn) or (step.published["version_number"] > 1).any():
            self._rekeying = True
        step = self._with_special(step, member)
        self._working[member] = step.versions
        return step

    def assigned(self, offsets: Mapping[TopicPartition, int | None]) -> None:
        began = self._clock.monotonic_s()
        for member, codec in self._codecs.items():
            versions = self._read(member, codec)
            if versions.is_empty() and any(
                offset for tp, offset in offsets.items() if tp.topic == member.source
            ):
                raise StateLost(
                    f"{member.dimension.topic} is empty, but {member.source} was read before: the topic was "
                    "deleted. To build the dimension again from the changes, delete this group's offsets "
                    "(kafka-consumer-groups --delete-offsets), have the connector take a new snapshot, and "
                    "start again"
                )
            self._committed[member] = self._working[member] = versions
        sizes = {member.dimension.topic: len(frame) for member, frame in self._committed.items()}
        _log.info(
            "dimensions restored", extra={"versions": sizes, "seconds": self._clock.monotonic_s() - began}
        )

    def revoked(self, partitions: Sequence[TopicPartition]) -> None:
        """Nothing: one process owns all partitions, and what it is assigned next it restores."""

    def before_commit(self, next_offsets: Mapping[TopicPartition, int]) -> None:
        """Nothing: see the module."""

    def after_commit(self, next_offsets: Mapping[TopicPartition, int]) -> None:
        self._committed = dict(self._working)
        self._rekeyings += self._rekeying
        self._rekeying = False

    def after_abort(self) -> None:
        self._working = dict(self._committed)
        self._rekeying = False

    def rekeyings(self) -> int:
        """Grows whenever a history changed in a way that may leave sales with another version than before. A
        member that becomes known, or is described otherwise, is none."""
        return self._rekeyings

    def sizes(self) -> dict[str, int]:
        """Versions kept, by topic."""
        return {member.dimension.topic: len(frame) for member, frame in self._committed.items()}

    def _read(self, member: Member, codec: Codec) -> pl.DataFrame:
        follower = self._follower([member.dimension.topic])
        try:
            follower.open()
            batches = []
            while not follower.at_end():
                batches += follower.poll(_CHUNK, _POLL_S)
        finally:
            follower.close()
        return applied(self._empty(member), batches, codec, member.dimension)

    def _with_special(self, step: Step, member: Member) -> Step:
        """The special member goes out with whatever is first."""
        if not step.versions[member.key].is_null().any():
            special = self._special(member)
            return Step(
                pl.concat([step.versions, special]), pl.concat([special, step.published]), step.withdrawn
            )
        return step

    def _special(self, member: Member) -> pl.DataFrame:
        now = pl.lit(self._clock.now_ms(), pl.Int64).cast(pl.Datetime("ms")).cast(INSTANT)
        values = {
            member.dimension.surrogate_key: SPECIAL_MEMBER,
            "effective_date": FIRST,
            "is_current": True,
            "version_number": 1,
            "is_deleted": False,
            "is_inferred": False,
            "restated": [],
            **({"is_product": False} if "is_product" in member.derived else {}),
            **member.special,
        }
        frame = pl.DataFrame([values], schema=self._codecs[member].columns)
        return frame.with_columns(recorded_at=now)

    def _empty(self, member: Member) -> pl.DataFrame:
        return pl.DataFrame(schema=self._codecs[member].columns)
