"""The way of a batch of enriched sales to the totals of the windows that it changes.

decode -> contributions -> changes per window -> new totals per shard -> encode

Every record counts, and what goes out are absolute totals: a reader who sees one twice, or only the last of
many, is right.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import polars as pl

from gold_writer.aggregates.state import AggregateState
from gold_writer.aggregates.totals import Rows, from_sums, to_columns, zeros
from gold_writer.aggregates.windows import changes, contributions
from schemas.aggregates import HEARTBEAT, REPLACES, TOTAL
from schemas.codec import Codec, Decoded
from schemas.registry import RegistryUnavailable
from streamkit.clock import Clock
from streamkit.headers import INGEST_TS, header_column
from streamkit.ports import Headers, OutputBatch, Paused, RecordBatch

_NO_HEADERS: Headers = []


class CorruptInput(Exception):  # noqa: N818 - reads as what happened
    """A record cannot be decoded. From validated on every row counts, so the stage stops and does not skip
    it: something other than the platform wrote to this topic."""


class AggregatesPipeline:
    """See `streamkit.ports.Pipeline`; the totals so far are in `state`."""

    def __init__(
        self,
        *,
        reader: Codec,
        writer: Codec,
        schema_id: int,
        state: AggregateState,
        clock: Clock,
        topic_out: str,
    ) -> None:
        """`reader` decodes enriched sales, `writer` encodes totals under `schema_id`."""
        self._reader = reader
        self._writer = writer
        self._schema_id = schema_id
        self._state = state
        self._clock = clock
        self._topic_out = topic_out

    def process(self, batch: RecordBatch) -> Sequence[OutputBatch]:
        """The windows that changed, shard by shard, each shard's total last.

        Raises `CorruptInput` or `UnknownDifference`, and `Paused` while the registry cannot tell a schema.
        """
        try:
            decoded = self._reader.decode(batch.value)
        except RegistryUnavailable as error:
            raise Paused(batch.next_offsets(), f"registry: {error}") from error
        refuse_bad(decoded, batch)
        windows = changes(
            contributions(decoded.frame, batch.partition, lambda: header_column(batch.headers, REPLACES))
        )
        ends = {tp.partition: following for tp, following in batch.next_offsets().items()}
        return [self._output(windows, self._advance(windows), ends)]

    def _advance(self, windows: pl.DataFrame) -> Rows:
        """The new totals of every row."""
        keys, sums = windows["key"].to_list(), from_sums(windows)
        totals = zeros(len(keys))
        # The rows of a shard are neighbours.
        shards, begins = np.unique(windows["shard"].to_numpy(), return_index=True)
        for shard, begin, end in zip(shards, begins, [*begins[1:], len(keys)], strict=True):
            totals[begin:end] = self._state.advance(int(shard), keys[begin:end], sums[begin:end])
        return totals

    def _output(self, windows: pl.DataFrame, totals: Rows, ends: Mapping[int, int]) -> OutputBatch:
        """`ends`: where the next batch of each shard begins."""
        shards = windows["shard"]
        records = windows.select("grain", "window_start", "dimension", "shard").with_columns(
            *to_columns(totals).values(),
            pl.lit(self._clock.now_ms(), pl.Int64).cast(pl.Datetime("ms")).alias("updated_at"),
            shards.replace_strict(ends, return_dtype=pl.Int64).alias("input_offset"),
        )
        return OutputBatch(
            topic=self._topic_out,
            value=self._writer.encode(records, self._schema_id),
            key=windows["key"].to_list(),
            headers=_headers(windows),
            partition=shards.to_list(),
        )


def refuse_bad(decoded: Decoded, batch: RecordBatch) -> None:
    """Stop at the first record that could not be decoded, and say which it is."""
    if decoded.bad:
        bad = decoded.bad[0]
        at = f"{batch.topic}[{batch.partition[bad.position]}]@{batch.offset[bad.position]}"
        raise CorruptInput(f"{at} cannot be decoded: {bad.reason}")


def _headers(windows: pl.DataFrame) -> list[Headers]:
    """The total carries the acceptance of the batch's earliest sale, from which the feed's latency counts,
    and that of its newest heartbeat."""
    headers = [_NO_HEADERS] * windows.height
    for place in np.flatnonzero((windows["grain"] == TOTAL).to_numpy()).tolist():
        headers[place] = [(INGEST_TS, str(windows["ingest_ms"][place]).encode())]
        if (beat := windows["heartbeat_ms"][place]) is not None:
            headers[place] = [*headers[place], (HEARTBEAT, str(beat).encode())]
    return headers
