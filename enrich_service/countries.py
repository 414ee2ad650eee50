"""Country names as sources write them, resolved to ISO 3166-1 alpha-2 codes and UN M49 regions. Pure."""

from __future__ import annotations

import polars as pl

from schemas.reference import country_key_expr


class CountryTable:
    """Name -> (code, region).

    Something that is no country of ISO 3166 (Channel Islands, European Community) may have a region and no
    code; what is not known has neither.
    """

    def __init__(self, names: pl.DataFrame) -> None:
        """`names` as `schemas.reference.countries` gives them: the list that quality's rule uses as well."""
        self._names = names

    def add_to(self, frame: pl.DataFrame) -> pl.DataFrame:
        """The frame with `country_code` and `region` (String, nullable), from its column `country`."""
        # Resolved once per distinct name: a batch has thousands of rows and a handful of countries.
        distinct = frame.select(pl.col("country").unique()).with_columns(name_key=country_key_expr())
        resolved = distinct.join(self._names, on="name_key", how="left").drop("name_key")
        return frame.join(resolved, on="country", how="left", maintain_order="left")
