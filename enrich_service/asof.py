"""Which version of a dimension was true when a sale was made: the point-in-time join. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import polars as pl

from schemas.dimensions import CUSTOMERS, PRODUCTS, Dimension

_AT = "__at"
_VERSION = "__version"


@dataclass(frozen=True, slots=True, eq=False)
class AsOf:
    """The versions of one dimension, ready to be looked up.

    Only members with more than one version are kept: of all others the key of the first version, which a sale
    has already, is right. So a batch costs little more than the changes that a dimension really had.
    """

    dimension: Dimension
    table: pl.DataFrame
    """Natural key, effective date (Datetime('us')) and surrogate key, by effective date."""

    @classmethod
    def of(cls, dimension: Dimension, versions: pl.DataFrame) -> AsOf:
        """`versions` has the columns of the dimension's topic."""
        table = (
            versions.lazy()
            .select(
                dimension.natural_key,
                pl.col("effective_date").alias(_AT),
                pl.col(dimension.surrogate_key).alias(_VERSION),
            )
            .filter(pl.len().over(dimension.natural_key) > 1)
            .sort(_AT)
            .collect()
        )
        return cls(dimension, table)

    def add_to(self, sales: pl.DataFrame) -> pl.DataFrame:
        """The frame with the key of the version that was true at `invoice_ts` in place of the first one's. A
        sale after a deletion has the last version. Order is kept."""
        key = self.dimension.surrogate_key
        if self.table.is_empty():
            return sales
        natural = self.dimension.natural_key
        table = self.table
        if len(table) > len(sales):
            # The join would hash all of a large dimension for a small batch.
            table = table.filter(pl.col(natural).is_in(sales[natural].drop_nulls().unique().implode()))
        looked_up = (
            sales.select(natural, pl.col("invoice_ts").cast(pl.Datetime("us")).alias(_AT))
            .with_row_index("__row")
            .sort(_AT)
            .join_asof(
                table,
                on=_AT,
                by=natural,
                strategy="backward",
                check_sortedness=False,
            )
            .sort("__row")[_VERSION]
        )
        return sales.with_columns(pl.coalesce(looked_up, key).alias(key))


def nothing_known() -> Mapping[Dimension, AsOf]:
    """Without versions every sale has the first one of its members."""
    empty = {"effective_date": pl.Datetime("us")}
    return {
        each: AsOf.of(
            each,
            pl.DataFrame(
                schema=pl.Schema({each.natural_key: pl.String(), each.surrogate_key: pl.Int64(), **empty})
            ),
        )
        for each in (CUSTOMERS, PRODUCTS)
    }
