"""What the builder knows of each dimension: where its members come from and which attributes they have. Pure.

A frame of *changes* has one row for each thing that a source said of a member, in any order:

    <natural key> String, at Datetime('us') when it begins, lsn Int64, deleted Boolean, <attributes>

A frame of *versions* has the columns of the dimension's topic.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import polars as pl

from enrich_service.countries import CountryTable
from enrich_service.enrichment import PRODUCT_CODE
from schemas.dimensions import CUSTOMERS, PRODUCTS, Dimension

INSTANT: Final = pl.Datetime("us")


@dataclass(frozen=True, slots=True, eq=False)
class Member:
    """`attributes`: what a change says, in the topic's names, each with the source's column that it comes
    from; a change of these makes a version. `seen`: the attributes that a sale tells of a member
    that the source has not described, the first of which decides whether it tells anything. `derived`:
    columns that follow from the others. `special`: attributes of the special member."""

    dimension: Dimension
    source: str
    attributes: Mapping[str, str]
    seen: tuple[str, ...]
    derived: tuple[str, ...]
    special: Mapping[str, object]

    @property
    def key(self) -> str:
        """Name of the natural key's column, here and in the source."""
        return self.dimension.natural_key

    def dtype(self, attribute: str) -> pl.DataType:
        return pl.Int64() if attribute.endswith("_micros") else pl.String()

    @property
    def changes(self) -> pl.Schema:
        """Columns of a frame of changes."""
        own = {name: self.dtype(name) for name in self.attributes}
        return pl.Schema(
            {self.key: pl.String(), "at": INSTANT, "lsn": pl.Int64(), "deleted": pl.Boolean(), **own}
        )

    @property
    def sightings(self) -> pl.Schema:
        """Columns of a frame of what sales say: the earliest sale that tells something of each member."""
        seen = {name: self.dtype(name) for name in self.seen}
        return pl.Schema({self.key: pl.String(), "inferred_from": INSTANT, **seen})


CUSTOMER: Final = Member(
    dimension=CUSTOMERS,
    source="cdc.shop.customers",
    attributes={
        **{name: name for name in ("name", "email", "phone", "address", "country", "segment")},
        "value_tier": "tier",
    },
    seen=("country",),
    derived=("country_code", "region"),
    special={"segment": "GUEST"},
)

PRODUCT: Final = Member(
    dimension=PRODUCTS,
    source="cdc.shop.products",
    attributes={
        **{name: name for name in ("description", "category", "currency", "supplier")},
        "list_price_micros": "list_price",
    },
    seen=("description",),
    derived=("is_product",),
    special={"description": "Unknown"},
)

MEMBERS: Final = (CUSTOMER, PRODUCT)


def derive(versions: pl.DataFrame, member: Member, countries: CountryTable) -> pl.DataFrame:
    """The frame with the member's derived columns."""
    if "country_code" in member.derived:
        return countries.add_to(versions)
    is_product = pl.col(member.key).str.contains(PRODUCT_CODE).fill_null(value=False)
    return versions.with_columns(is_product=is_product)
