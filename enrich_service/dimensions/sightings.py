"""Which customers and products sales name, and what they tell of them. Pure."""

from __future__ import annotations

import polars as pl

from enrich_service.dimensions.members import INSTANT, Member


def sightings(sales: pl.DataFrame, member: Member) -> pl.DataFrame:
    """The members that the batch names, each with its earliest sale that tells something.

    `sales` has the columns of EnrichedSale. Sales of the special member name nobody.
    """
    return (
        sales.lazy()
        .filter(pl.col(member.key).is_not_null())
        .select(member.key, pl.col("invoice_ts").cast(INSTANT).alias("inferred_from"), *member.seen)
        # Of thousands of rows a few hundred remain, and only these are sorted.
        .group_by(member.key, *member.seen)
        .agg(pl.col("inferred_from").min())
        .select(member.sightings.names())
        .collect()
    )
