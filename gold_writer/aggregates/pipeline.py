"""The way of a batch of enriched sales to the totals of the windows that it changes.

decode -> contributions -> changes per window -> new totals per shard -> encode

Every record counts, and what goes out are absolute totals: a reader who sees one twice, or only the last of
many, is right.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import polars as pl

from gold_writer.aggregates.state import AggregateState
from gold_writer.aggregates.totals import from_sums, to_columns
from gold_writer.aggregates.windows import changes, contributions, keys
from schemas.aggregates import REPLACES, TOTAL
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
        """One output per shard, its total last. Raises `CorruptInput` or `UnknownDifference`, and `Paused`
        while the registry cannot tell a schema."""
        try:
            decoded = self._reader.decode(batch.value)
        except RegistryUnavailable as error:
            raise Paused(batch.next_offsets(), f"registry: {error}") from error
        refuse_bad(decoded, batch)
        windows = changes(
            contributions(decoded.frame, batch.partition, lambda: header_column(batch.headers, REPLACES))
        )
        return [
            self._output(windows.filter(pl.col("shard") == tp.partition), tp.partition, following)
            for tp, following in batch.next_offsets().items()
        ]

    def _output(self, windows: pl.DataFrame, shard: int, input_offset: int) -> OutputBatch:
        """`windows`: the changes of one shard. `input_offset`: where its next batch begins."""
        names = keys(windows)
        totals = self._state.advance(shard, names, from_sums(windows))
        records = windows.select(
            "grain",
            pl.col("window_ms").cast(pl.Datetime("ms")).alias("window_start"),
            "dimension",
            "shard",
            *to_columns(totals).values(),
            pl.lit(self._clock.now_ms(), pl.Int64).cast(pl.Datetime("ms")).alias("updated_at"),
            pl.lit(input_offset, pl.Int64).alias("input_offset"),
        )
        return OutputBatch(
            topic=self._topic_out,
            value=self._writer.encode(records, self._schema_id),
            key=names,
            headers=_headers(windows),
            partition=[shard] * len(names),
        )


def refuse_bad(decoded: Decoded, batch: RecordBatch) -> None:
    """Stop at the first record that could not be decoded, and say which it is."""
    if decoded.bad:
        bad = decoded.bad[0]
        at = f"{batch.topic}[{batch.partition[bad.position]}]@{batch.offset[bad.position]}"
        raise CorruptInput(f"{at} cannot be decoded: {bad.reason}")


def _headers(windows: pl.DataFrame) -> list[Headers]:
    """The total carries the acceptance of the batch's earliest sale: the feed's latency counts from it."""
    headers = [_NO_HEADERS] * windows.height
    for place in np.flatnonzero((windows["grain"] == TOTAL).to_numpy()).tolist():
        headers[place] = [(INGEST_TS, str(windows["ingest_ms"][place]).encode())]
    return headers
