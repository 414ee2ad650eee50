"""Versions of customers and products: from records to rows, and the statements that store them.

The dimension builder decides; here versions are only put in place. Of several records of one version in a
batch the last counts, so that a batch ends in a state that the topic had, and the constraint on overlaps,
checked at the commit, holds.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from gold_writer.warehouse.batch import Rows
from gold_writer.warehouse.columns import Column, instant, money, plain, text, to_csv
from schemas.codec import Codec
from schemas.dimensions import CUSTOMERS, PRODUCTS, Dimension, surrogate_key
from streamkit.ports import RecordBatch

_COMMON: Final = (
    instant("effective_date"),
    instant("expiry_date"),
    plain("is_current", "boolean"),
    plain("version_number", "integer"),
    plain("is_deleted", "boolean"),
    plain("is_inferred", "boolean"),
    instant("inferred_from"),
    instant("valid_from"),
    plain("source_lsn", "bigint"),
    plain("deleted_lsn", "bigint"),
    plain("restated", "text[]"),
    instant("recorded_at"),
)


@dataclass(frozen=True, slots=True)
class Table:
    """Where the versions of a dimension go."""

    dimension: Dimension
    name: str
    columns: tuple[Column, ...]

    @property
    def staged(self) -> str:
        return f"staged_{self.name}"

    @property
    def remove(self) -> str:
        """Statement; its parameter is an array of surrogate keys."""
        key = self.dimension.surrogate_key
        return f"DELETE FROM warehouse.{self.name} WHERE {key} = ANY($1::bigint[])"  # noqa: S608 - our names

    @property
    def upsert(self) -> str:
        key = self.dimension.surrogate_key
        names = ", ".join(c.name for c in self.columns)
        values = ", ".join(c.expression for c in self.columns)
        replaced = ", ".join(f"{c.name} = excluded.{c.name}" for c in self.columns if c.name != key)
        return f"""
            INSERT INTO warehouse.{self.name} ({names})
            SELECT {values} FROM {self.staged} AS s ORDER BY s.{key}
            ON CONFLICT ({key}) DO UPDATE SET {replaced}
        """  # noqa: S608 - our names


CUSTOMER_TABLE: Final = Table(
    CUSTOMERS,
    "dim_customers",
    (
        plain("customer_key", "bigint"),
        *map(text, ("customer_id", "name", "email", "phone", "address", "country", "country_code", "region")),
        *map(text, ("segment", "value_tier")),
        *_COMMON,
    ),
)
PRODUCT_TABLE: Final = Table(
    PRODUCTS,
    "dim_products",
    (
        plain("product_key", "bigint"),
        *map(text, ("stock_code", "description", "category", "currency", "supplier")),
        money("list_price"),
        plain("is_product", "boolean"),
        *_COMMON,
    ),
)
TABLES: Final = (CUSTOMER_TABLE, PRODUCT_TABLE)


@dataclass(frozen=True, slots=True)
class Versions(Rows):
    """Versions to put into `table`, and the surrogate keys of those that were `withdrawn`."""

    table: Table
    withdrawn: Sequence[int]


class NoVersion(Exception):  # noqa: N818 - reads as what happened
    """A record that is no version of the dimension. `position` is its place in the batch."""

    def __init__(self, position: int, reason: str) -> None:
        super().__init__(reason)
        self.position = position


def stage(batch: RecordBatch, table: Table, codec: Codec) -> Versions:
    """Raises `NoVersion`, or `RegistryUnavailable`."""
    last = {key: position for position, key in enumerate(batch.key)}
    kept = [position for position in last.values() if batch.value[position] is not None]
    gone = [position for position in last.values() if batch.value[position] is None]
    decoded = codec.decode([batch.value[position] for position in kept])
    if decoded.bad:
        raise NoVersion(kept[decoded.bad[0].position], decoded.bad[0].reason)
    withdrawn = [_key_of(batch, position, table) for position in gone]
    return Versions(to_csv(decoded.frame, table.columns), len(kept), table, withdrawn)


def _key_of(batch: RecordBatch, position: int, table: Table) -> int:
    try:
        return surrogate_key(table.dimension, batch.key[position] or b"")
    except ValueError as error:
        raise NoVersion(position, str(error)) from error
