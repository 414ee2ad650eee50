"""The way of a batch through the dimension builder.

    change events:  decode the envelope -> changes  ─┐
    sales:          decode -> who is named          ─┴─> versions that differ -> encode

What goes out are whole versions under their own keys, so a reader who sees one twice is right.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl

from enrich_service.dimensions.envelope import Envelopes, NotAChange
from enrich_service.dimensions.members import Member
from enrich_service.dimensions.revision import Step
from enrich_service.dimensions.sightings import sightings
from enrich_service.dimensions.state import DimensionState
from schemas.codec import Codec
from schemas.dimensions import record_key_expr
from schemas.hashing import murmur2_partition_series
from schemas.heartbeat import is_heartbeat
from schemas.registry import RegistryUnavailable
from streamkit.ports import OutputBatch, Paused, RecordBatch

SALES = "sales.enriched.v1"


class CorruptInput(Exception):  # noqa: N818 - reads as what happened
    """A record that is no sale or no change. To skip it would leave a history wrong for ever, so the stage
    stops, and goes on from that record once the cause is removed."""


@dataclass(frozen=True, slots=True)
class Output:
    """Where the versions of a member go. `partitions`: of the topic."""

    topic: str
    codec: Codec
    schema_id: int
    partitions: int


class DimensionsPipeline:
    """See `streamkit.ports.Pipeline`; what is known so far is in `state`."""

    def __init__(
        self,
        *,
        changes: Mapping[Member, Envelopes],
        sales: Codec,
        state: DimensionState,
        outputs: Mapping[Member, Output],
        sales_topic: str = SALES,
    ) -> None:
        """`changes` decodes each member's table, `sales` enriched sales."""
        self._changes = dict(changes)
        self._sales = sales
        self._state = state
        self._outputs = dict(outputs)
        self._sales_topic = sales_topic
        self._tables = {member.source: member for member in changes}

    def process(self, batch: RecordBatch) -> Sequence[OutputBatch]:
        """The versions that the batch makes new or other, and tombstones of those it withdraws.

        Raises `CorruptInput`, and `Paused` while the registry cannot tell a schema.
        """
        try:
            return self._news(batch) if batch.topic == self._sales_topic else self._changed(batch)
        except RegistryUnavailable as error:
            raise Paused(batch.next_offsets(), f"registry: {error}") from error

    def _changed(self, batch: RecordBatch) -> list[OutputBatch]:
        member = self._tables[batch.topic]
        try:
            changes = self._changes[member].changes(batch.value)
        except NotAChange as error:
            raise CorruptInput(f"{_at(batch, error.position)} is no change: {error}") from error
        step = self._state.advance(member, changes, member.sightings.to_frame())
        return [self._output(member, step)]

    def _news(self, batch: RecordBatch) -> list[OutputBatch]:
        decoded = self._sales.decode(batch.value)
        if decoded.bad:
            bad = decoded.bad[0]
            raise CorruptInput(f"{_at(batch, bad.position)} is no sale: {bad.reason}")
        # A later revision names the same members: an accepted sale is immutable. A heartbeat sells nothing.
        first = decoded.frame.filter((pl.col("revision") == 0) & ~is_heartbeat())
        return [
            self._output(
                member, self._state.advance(member, member.changes.to_frame(), sightings(first, member))
            )
            for member in self._outputs
        ]

    def _output(self, member: Member, step: Step) -> OutputBatch:
        to = self._outputs[member]
        rows = pl.concat([step.withdrawn, step.published.select(step.withdrawn.columns)])
        keys = rows.select(record_key_expr(member.dimension).cast(pl.Binary)).to_series().to_list()
        values = to.codec.encode(step.published, to.schema_id)
        natural = rows[member.key].fill_null("")
        return OutputBatch(
            topic=to.topic,
            value=[*([None] * len(step.withdrawn)), *values],
            key=keys,
            partition=murmur2_partition_series(natural, to.partitions).tolist(),
        )


def _at(batch: RecordBatch, position: int) -> str:
    place = int(np.clip(position, 0, len(batch) - 1))
    return f"{batch.topic}[{batch.partition[place]}]@{batch.offset[place]}"
