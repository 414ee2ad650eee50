"""Versions of customers and products, as the warehouse has them, and a customer's sales.

A version is current until the next begins; `as_of` is business time: the version that was true then. Where
many members are asked for at once, as under a page of them, one statement answers for all.
"""

from __future__ import annotations

import base64
import binascii
import logging
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from query_api.errors import BadInputError
from query_api.postgres import Row, Store
from query_api.sales import COLUMNS as SALE_COLUMNS
from query_api.sales import Page, edges_of, keyset
from schemas.personal import CustomerKey, Keyring, PersonalDataError, WrappedKey

log = logging.getLogger(__name__)

_VERSION: Final = "effective_date, expiry_date, is_current, version_number"
_SALES: Final = """
SELECT <columns> FROM unnest($1::text[]) AS wanted (id)
CROSS JOIN LATERAL (
    SELECT * FROM warehouse.fact_sales
    WHERE customer_id = wanted.id<after> ORDER BY invoice_ts DESC, event_id DESC LIMIT $2
) AS s
"""
_KEYS: Final = (
    "SELECT customer_id, wrapped_key, master_key FROM ops.customer_keys WHERE customer_id = ANY($1::text[])"
)
_COUNTS: Final = """
SELECT customer_id, count(*) FROM warehouse.fact_sales
WHERE customer_id = ANY($1::text[]) GROUP BY customer_id
"""


@dataclass(frozen=True, slots=True)
class Kind:
    """One dimension: its table, keys and columns."""

    table: str
    natural: str
    surrogate: str
    columns: str


CUSTOMERS: Final = Kind(
    "warehouse.dim_customers",
    "customer_id",
    "customer_key",
    f"customer_key, customer_id, name, email, country, country_code, segment, value_tier, {_VERSION}",
)
PRODUCTS: Final = Kind(
    "warehouse.dim_products",
    "stock_code",
    "product_key",
    f"product_key, stock_code, description, category, list_price, {_VERSION}",
)


@dataclass(frozen=True, slots=True)
class MemberPage:
    rows: Sequence[Row]
    has_next_page: bool
    after: str | None


class Members:
    """`first` is bounded by the caller. The special members are nobody's customer and no product."""

    def __init__(self, store: Store, keyring: Keyring | None = None) -> None:
        """Without `keyring` personal data stays closed."""
        self._store = store
        self._keyring = keyring

    async def version(self, kind: Kind, natural: str, as_of: datetime | None = None) -> Row | None:
        """The current version, or the one at `as_of`; None for one that is not known, or not there then."""
        select = f"SELECT {kind.columns} FROM {kind.table} WHERE {kind.natural} = $1"  # noqa: S608 - our names
        if as_of is None:
            return await self._store.row(
                f"{select} AND is_current ORDER BY effective_date DESC LIMIT 1", natural
            )
        return await self._store.row(
            f"{select} AND effective_date <= $2 AND (expiry_date IS NULL OR expiry_date > $2) "
            "ORDER BY effective_date DESC LIMIT 1",
            natural,
            as_of,
        )

    async def by_key(self, kind: Kind, keys: Sequence[int]) -> list[Row | None]:
        """The version of each surrogate key."""
        rows = await self._store.rows(
            f"SELECT {kind.columns} FROM {kind.table} "  # noqa: S608 - our names
            f"WHERE {kind.surrogate} = ANY($1::bigint[]) AND {kind.natural} IS NOT NULL",
            list(keys),
        )
        found = {row[kind.surrogate]: row for row in rows}
        return [found.get(key) for key in keys]

    async def histories(self, kind: Kind, naturals: Sequence[str]) -> list[list[Row]]:
        """All versions of each member, oldest first."""
        rows = await self._store.rows(
            f"SELECT {kind.columns} FROM {kind.table} "  # noqa: S608 - our names
            f"WHERE {kind.natural} = ANY($1::text[]) ORDER BY {kind.natural}, effective_date",
            list(naturals),
        )
        found: dict[str, list[Row]] = defaultdict(list)
        for row in rows:
            found[row[kind.natural]].append(row)
        return [found[natural] for natural in naturals]

    async def customer_keys(self, ids: Sequence[str]) -> list[CustomerKey | None]:
        """The key of each customer's personal data; None where it was shredded, or is not ours to open."""
        if self._keyring is None:
            return [None] * len(ids)
        found = {}
        for row in await self._store.rows(_KEYS, list(ids)):
            try:
                stored = WrappedKey(row["wrapped_key"], row["master_key"])
                found[row["customer_id"]] = self._keyring.unwrap(row["customer_id"], stored)
            except PersonalDataError as error:
                log.error("a customer's key cannot be used", extra={"reason": str(error)})
        return [found.get(each) for each in ids]

    async def page(self, kind: Kind, first: int, after: str | None = None) -> MemberPage:
        """Current versions by natural key, from behind the cursor `after`. Raises `BadInputError`."""
        begin = "" if after is None else _natural(after)
        rows = await self._store.rows(
            f"SELECT {kind.columns} FROM {kind.table} "  # noqa: S608 - our names
            f"WHERE is_current AND {kind.natural} > $1 ORDER BY {kind.natural}, effective_date DESC LIMIT $2",
            begin,
            first + 1,
        )
        return MemberPage(rows[:first], len(rows) > first, after)

    async def count(self, kind: Kind) -> int:
        """Members that are there now."""
        row = await self._store.row(
            f"SELECT count(*) FROM {kind.table} "  # noqa: S608 - our names
            f"WHERE is_current AND {kind.natural} IS NOT NULL"
        )
        assert row is not None, "count(*) has one row"
        return int(row[0])

    async def sales(self, customers: Sequence[str], first: int, after: str | None) -> list[Page]:
        """Of each customer the `first` sales behind the cursor `after`, newest first."""
        args: list[object] = [list(customers), first + 1]
        condition = ""
        if after is not None:
            cursor = keyset(after)
            args += [*cursor]
            condition = " AND (invoice_ts, event_id) < ($3, $4)"
        sql = _SALES.replace("<columns>", SALE_COLUMNS).replace("<after>", condition)
        found: dict[str, list[Row]] = defaultdict(list)
        for row in await self._store.rows(sql, *args):
            found[row["customer_id"]].append(row)
        return [edges_of(found[customer], first, after) for customer in customers]

    async def sale_counts(self, customers: Sequence[str]) -> list[int]:
        found = {row[0]: int(row[1]) for row in await self._store.rows(_COUNTS, list(customers))}
        return [found.get(customer, 0) for customer in customers]


def cursor_of(natural: str) -> str:
    return base64.urlsafe_b64encode(natural.encode()).rstrip(b"=").decode("ascii")


def _natural(cursor: str) -> str:
    try:
        natural = base64.b64decode(cursor + "=" * (-len(cursor) % 4), altchars=b"-_", validate=True).decode()
    except (binascii.Error, UnicodeError, ValueError):
        raise BadInputError("after: not a cursor of this API") from None
    if "\x00" in natural:
        raise BadInputError("after: not a cursor of this API")
    return natural
