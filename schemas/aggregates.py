"""What producer and readers of `sales.aggregates.v1` agree on beyond its schema.

A record is the absolute total of one window, dimension and shard. The shard is the input partition that was
counted, and the record lies in the partition of that number; readers sum the shards.
"""

from __future__ import annotations

from typing import Final

MINUTE_COUNTRY: Final = "minute_country"
DAY_PRODUCT: Final = "day_product"
TOTAL: Final = "total"
"""All that a shard has counted: in each batch the last record, so always the last one of its partition."""

CARRY: Final = 10**18
"""Amounts are `*_carry` * CARRY + `*_micros`, both of one sign: a hostile sum must neither wrap nor stop."""

HEARTBEAT: Final = "heartbeat-ts"
"""Header of a total whose batch held a heartbeat: when the newest was accepted, in ms since 1970 UTC."""

REPLACES: Final = "replaces"
"""Header of an enriched record with a revision above 0: what it replaces, as `revision:amount`, the amount in
micros of GBP and empty where there was none (`0:15300000`, `0:`). Totals apply the difference. It is a matter
of the stream and no part of the row, which is the same in every store."""


def amount(micros: int, carry: int) -> int:
    """An amount in micros, exact at any size."""
    return carry * CARRY + micros
