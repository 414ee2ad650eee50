"""The work of the stage on a batch, from parts of quality (rules) and enrich (countries, amounts, flags).

Between decode and encode there is no Python object per event but its id, which the set in memory needs.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import polars as pl

from bench.transform.dataset import RAW_SCHEMA_ID
from bench.transform.reference import OUT_SCHEMA_ID, countries_frame, products_frame
from enrich_service import enrichment
from enrich_service.countries import CountryTable
from quality_service.rules import Rules
from schemas.codec import Codec
from schemas.contract import Contract, load_contract
from schemas.fakes import InMemoryRegistry
from streamkit.columns import BinaryColumn


@dataclass(frozen=True, slots=True)
class Output:
    """Records to produce, one entry each; keys as text, values a column that reads as a sequence of bytes."""

    keys: pl.Series
    values: BinaryColumn


class Stage:
    """decode -> rules -> duplicates -> countries -> products -> amount -> flags -> encode"""

    def __init__(self, document: dict[str, Any], raw_schema: str, out_schema: str) -> None:
        registry = InMemoryRegistry()
        ids = (registry.register("raw", raw_schema), registry.register("out", out_schema))
        if ids != (RAW_SCHEMA_ID, OUT_SCHEMA_ID):
            raise RuntimeError(f"a new registry gave the ids {ids}")
        self._reader = Codec(raw_schema, registry)
        self._writer = Codec(out_schema, registry)
        contract = load_contract()
        self._rules = Rules(Contract(contract.version, contract.reject, []))
        self._now_ms = int(document["now_ms"])
        self._countries = CountryTable(countries_frame(document))
        self._products = products_frame(document)
        self._seen: set[str] = set()

    def process(self, values: Sequence[bytes | None]) -> Output:
        """All of it, duplicates found by a set in memory."""
        rows, valid = self.judge(values)
        return self.finish(self.unseen(rows.filter(valid)))

    def judge(self, values: Sequence[bytes | None]) -> tuple[pl.DataFrame, pl.Series]:
        """The decoded rows and whether each passes the rules. Raises ValueError at one that is no sale."""
        decoded = self._reader.decode(values)
        if decoded.bad:
            raise ValueError(f"record {decoded.bad[0].position} of the batch: {decoded.bad[0].reason}")
        judged = self._rules.judge(decoded.frame, self._now_ms)
        return decoded.frame, pl.Series(judged.reject == 0)

    def unseen(self, rows: pl.DataFrame) -> pl.DataFrame:
        """Rows whose event id comes for the first time."""
        ids = rows["event_id"].to_list()
        seen, before = self._seen, len(self._seen)
        known = [each in seen for each in ids]
        seen.update(ids)
        if len(seen) - before == len(ids):
            return rows
        return rows.filter(~pl.Series(known, dtype=pl.Boolean)).unique(
            "event_id", keep="first", maintain_order=True
        )

    def finish(self, rows: pl.DataFrame) -> Output:
        """Enrich and encode."""
        rows = self._countries.add_to(rows)
        rows = rows.join(self._products, on="stock_code", how="left", maintain_order="left")
        rows = enrichment.add_flags(enrichment.add_amount(rows))
        return Output(rows["invoice_no"], BinaryColumn(self._writer.encode_column(rows, OUT_SCHEMA_ID)))
