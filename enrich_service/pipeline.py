"""The way of a sale through enrich: validated in, enriched out. Every row that comes in goes out.

decode -> country -> amount -> GBP -> keys -> versions at the sale -> flags -> revision -> encode
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import polars as pl

from enrich_service import enrichment
from enrich_service.asof import AsOf, nothing_known
from enrich_service.countries import CountryTable
from enrich_service.fx import FxTable
from schemas.codec import Codec, Decoded
from schemas.dimensions import Dimension
from schemas.registry import RegistryUnavailable
from streamkit.clock import Clock
from streamkit.columns import BinaryColumn
from streamkit.ports import OutputBatch, Paused, RecordBatch

TOPIC_IN = "sales.validated.v1"
TOPIC_OUT = "sales.enriched.v1"


class CorruptInput(Exception):  # noqa: N818 - reads as what happened
    """A record of sales.validated.v1 cannot be decoded. Only ingest and quality may reject, and quality
    writes nothing that it cannot read: something else wrote here. The service stops rather than skip it."""


class EnrichPipeline:
    """Pure but for the clock; see `streamkit.ports.Pipeline`."""

    def __init__(
        self,
        *,
        reader: Codec,
        writer: Codec,
        schema_id: int,
        countries: CountryTable,
        rates: FxTable,
        clock: Clock,
        observe: Callable[[pl.DataFrame], None] = lambda frame: None,
        topic_out: str = TOPIC_OUT,
        dimensions: Callable[[], Mapping[Dimension, AsOf]] = nothing_known,
    ) -> None:
        """`reader` decodes validated sales, `writer` encodes enriched ones under `schema_id`.
        `observe` is called with each enriched batch, for metrics. `dimensions` tells the versions known."""
        self._reader = reader
        self._writer = writer
        self._schema_id = schema_id
        self._countries = countries
        self._rates = rates
        self._clock = clock
        self._observe = observe
        self._topic_out = topic_out
        self._dimensions = dimensions

    def process(self, batch: RecordBatch) -> Sequence[OutputBatch]:
        """One enriched record for each validated one, in order, keyed by invoice, headers unchanged.

        Raises `CorruptInput`, or `Paused` while the registry cannot tell a schema.
        """
        try:
            decoded = self._reader.decode(batch.value)
        except RegistryUnavailable as error:
            raise Paused(batch.next_offsets(), f"registry: {error}") from error
        refuse_bad(decoded, batch)
        enriched = self.enrich(with_coordinates(decoded, batch))
        self._observe(enriched)
        return [
            OutputBatch(
                topic=self._topic_out,
                value=BinaryColumn(self._writer.encode_column(enriched, self._schema_id)),
                key=BinaryColumn.of_series(enriched["invoice_no"]),
                headers=batch.headers,
            )
        ]

    def enrich(self, frame: pl.DataFrame) -> pl.DataFrame:
        """The columns of ValidatedSale and its coordinates in, those of EnrichedSale out."""
        frame = self._countries.add_to(frame)
        frame = enrichment.add_amount(frame)
        frame = self._rates.add_to(frame)
        frame = enrichment.add_keys(frame)
        for versions in self._dimensions().values():
            frame = versions.add_to(frame)
        frame = enrichment.add_flags(frame)
        return enrichment.add_revision(frame, self._clock.now_ms())


def refuse_bad(decoded: Decoded, batch: RecordBatch) -> None:
    """Stop at the first record that could not be decoded, and say which it is."""
    if decoded.bad:
        bad = decoded.bad[0]
        at = f"{batch.topic}[{batch.partition[bad.position]}]@{batch.offset[bad.position]}"
        raise CorruptInput(f"{at} cannot be decoded: {bad.reason}")


def with_coordinates(decoded: Decoded, batch: RecordBatch) -> pl.DataFrame:
    """The decoded rows with `validated_partition` and `validated_offset`, where they were read."""
    return decoded.frame.with_columns(
        validated_partition=pl.Series(batch.partition[decoded.index], dtype=pl.Int32),
        validated_offset=pl.Series(batch.offset[decoded.index], dtype=pl.Int64),
    )
