"""What producer and readers of `dim.customers.v1` and `dim.products.v1` agree on beyond their schemas.

A record is one version of one member of a dimension. Its key is `natural key|effective date`, its partition
murmur2 of the natural key alone, so that all versions of a member stay in order. A withdrawn version is a
tombstone: the key without a value. The surrogate key follows from the record key, so a reader of a tombstone
knows which row to remove.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import polars as pl

from schemas.identity import FIRST_EFFECTIVE_DATE, SPECIAL_MEMBER, key64, key64_expr

DELIMITER: Final = "|"
"""Between natural key and effective date. A natural key may hold it, a date does not: split at the last."""

SPECIAL_NATURAL_KEY: Final = ""
"""Natural key, within a record key only, of the special member; in the record it is null."""

_INSTANT: Final = "%Y-%m-%dT%H:%M:%S%.6fZ"
_FIRST: Final = pl.lit(FIRST_EFFECTIVE_DATE).str.to_datetime("%Y-%m-%d", time_unit="us")


@dataclass(frozen=True, slots=True)
class Dimension:
    """Names of one dimension. `entity` goes into its surrogate keys (`schemas.identity`)."""

    entity: str
    topic: str
    surrogate_key: str
    natural_key: str


CUSTOMERS: Final = Dimension("customer", "dim.customers.v1", "customer_key", "customer_id")
PRODUCTS: Final = Dimension("product", "dim.products.v1", "product_key", "stock_code")


def effective_text_expr(effective_date: str | pl.Expr = "effective_date") -> pl.Expr:
    """An effective date (Datetime('us'), UTC) as keys have it: `1900-01-01` for the first version, else
    ISO 8601 with six places and Z."""
    date = pl.col(effective_date) if isinstance(effective_date, str) else effective_date
    return pl.when(date == _FIRST).then(pl.lit(FIRST_EFFECTIVE_DATE)).otherwise(date.dt.strftime(_INSTANT))


def record_key_expr(dimension: Dimension, effective_date: str | pl.Expr = "effective_date") -> pl.Expr:
    """Key of a version's record, as text."""
    natural = pl.col(dimension.natural_key).fill_null(SPECIAL_NATURAL_KEY)
    return pl.concat_str(natural, effective_text_expr(effective_date), separator=DELIMITER)


def surrogate_key_expr(dimension: Dimension, effective_date: str | pl.Expr = "effective_date") -> pl.Expr:
    """Surrogate key (Int64) of a version; the special member's where the natural key is null."""
    key = key64_expr(pl.lit(dimension.entity), dimension.natural_key, effective_text_expr(effective_date))
    return key.fill_null(SPECIAL_MEMBER)


def parse_record_key(key: bytes) -> tuple[str | None, str]:
    """Natural key (None for the special member) and effective date of a record key, as text.

    Raises `ValueError` where it is none.
    """
    natural, delimiter, effective = key.decode().rpartition(DELIMITER)
    if not delimiter or not effective:
        raise ValueError(f"{key!r} is no key of a dimension record: natural key{DELIMITER}effective date")
    return natural or None, effective


def surrogate_key(dimension: Dimension, key: bytes) -> int:
    """Surrogate key of the version that a record key names: scalar twin of `surrogate_key_expr`."""
    natural, effective = parse_record_key(key)
    return SPECIAL_MEMBER if natural is None else key64(dimension.entity, natural, effective)
