"""Fills the shop's tables, once for a database: what a person deletes afterwards stays deleted.

Protocol, in one transaction:
1. take an advisory lock, so that two that start together do not both seed;
2. stop if `ops.shop_seeds` says that it was done;
3. insert customers (with keys of their own), products, stock levels and prices that are not there yet;
4. say in `ops.shop_seeds` that it was done.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any

import asyncpg

from schemas.personal import PERSONAL_FIELDS, Keyring

_LOCK = "SELECT pg_advisory_xact_lock(hashtext('tillstream shop seed'))"


@dataclass(frozen=True, slots=True)
class Seeded:
    """Rows inserted; all zero where it was done before."""

    customers: int = 0
    products: int = 0


async def seed(dsn: str, keyring: Keyring, sample: Path, name: str) -> Seeded:
    """`name`: of this seed; each is sown once. Raises asyncpg's errors, and OSError for the files."""
    db = await asyncpg.connect(dsn)
    try:
        async with db.transaction():
            await db.execute(_LOCK)  # 1
            if await db.fetchval("SELECT 1 FROM ops.shop_seeds WHERE name = $1", name):  # 2
                return Seeded()
            # Not before: reading the sample and making people takes longer than all the rest of a start.
            from deploy.shop import people  # noqa: PLC0415
            from deploy.shop import sample as sales  # noqa: PLC0415

            lines = sales.read(sample)
            products = sales.products(lines).rows(named=True)
            customers = [
                {**row, **people.person(row["customer_id"], row["country"])}
                for row in sales.customers(lines).rows(named=True)
            ]
            done = Seeded(  # 3
                await _customers(db, keyring, customers), await _products(db, products)
            )
            await db.execute("INSERT INTO ops.shop_seeds (name) VALUES ($1)", name)  # 4
            return done
    finally:
        await db.close()


async def _customers(db: asyncpg.Connection, keyring: Keyring, rows: Sequence[dict[str, Any]]) -> int:
    there = {row["customer_id"] for row in await db.fetch("SELECT customer_id FROM shop.customers")}
    new = [row for row in rows if row["customer_id"] not in there]
    records, keys = [], []
    for row in new:
        key, stored = keyring.new_key(row["customer_id"])
        keys.append((row["customer_id"], stored.wrapped, stored.master_key))
        personal = [key.encrypt(name, row[name]) for name in PERSONAL_FIELDS]
        records.append(
            (
                row["customer_id"],
                *personal,
                keyring.email_index(row["email"]),
                row["country"],
                row["segment"],
                row["tier"],
            )
        )
    # A key that outlived its customer is not used again.
    await db.execute("DELETE FROM ops.customer_keys WHERE customer_id = ANY($1)", [key[0] for key in keys])
    await db.copy_records_to_table(
        "customer_keys", schema_name="ops", records=keys, columns=["customer_id", "wrapped_key", "master_key"]
    )
    columns = ["customer_id", *PERSONAL_FIELDS, "email_index", "country", "segment", "tier"]
    await db.copy_records_to_table("customers", schema_name="shop", records=records, columns=columns)
    return len(records)


async def _products(db: asyncpg.Connection, rows: Sequence[dict[str, Any]]) -> int:
    from deploy.shop.sample import CURRENCY, LOCATION, PRICES_FROM  # noqa: PLC0415

    there = {row["stock_code"] for row in await db.fetch("SELECT stock_code FROM shop.products")}
    new = [row for row in rows if row["stock_code"] not in there]
    prices = {row["stock_code"]: Decimal(row["list_price"]) for row in new if row["list_price"] is not None}
    await db.copy_records_to_table(
        "products",
        schema_name="shop",
        records=[
            (
                code := row["stock_code"],
                row["description"],
                row["category"],
                prices.get(code),
                CURRENCY,
                row["supplier"],
            )
            for row in new
        ],
        columns=["stock_code", "description", "category", "list_price", "currency", "supplier"],
    )
    await db.copy_records_to_table(
        "stock_levels",
        schema_name="shop",
        records=[(row["stock_code"], LOCATION, max(24, 10 * row["sold"]), 2 * row["sold"]) for row in new],
        columns=["stock_code", "location", "quantity", "reorder_level"],
    )
    await db.copy_records_to_table(
        "price_list",
        schema_name="shop",
        records=[(code, CURRENCY, price, PRICES_FROM) for code, price in prices.items()],
        columns=["stock_code", "currency", "price", "valid_from"],
    )
    return len(new)
