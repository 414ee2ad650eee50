"""Rows of a resource: read, page, insert, replace, delete. Values are parameters, never program text."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from query_api.filters import Where
from query_api.shop.database import Connection, rows
from query_api.shop.resources import Resource

Row = dict[str, Any]

# Beside what an answer holds.
_HIDDEN = {"customers": ("email_index",)}


def _columns(resource: Resource) -> str:
    return ", ".join((*resource.returned, *_HIDDEN.get(resource.name, ())))


def _by_key(where: Where, resource: Resource, key: Sequence[Any]) -> Where:
    for name, value in zip(resource.key, key, strict=True):
        where.add(f"{name} = {{}}", value)
    return where


async def get(db: Connection, resource: Resource, key: Sequence[Any], *, lock: bool = False) -> Row | None:
    """`lock`: nobody changes it until the transaction ends."""
    where = _by_key(Where(), resource, key)
    sql = f"SELECT {_columns(resource)} FROM {resource.table} WHERE {where}"  # noqa: S608 - program text only
    row = await db.fetchrow(sql + (" FOR UPDATE" if lock else ""), *where.args)
    return None if row is None else dict(row)


async def page(
    db: Connection,
    resource: Resource,
    filters: Mapping[str, Any],
    after: Sequence[Any] | None,
    limit: int,
) -> list[Row]:
    """At most `limit` rows behind the key `after`, by key."""
    where = Where()
    for name, value in filters.items():
        where.add(resource.filters[name].condition, value)
    names = ", ".join(resource.key)
    if after is not None:
        holes = ", ".join("{}" for _ in after)
        where.add(f"({names}) > ({holes})", *after)
    sql = f"SELECT {_columns(resource)} FROM {resource.table} WHERE {where} ORDER BY {names} LIMIT "  # noqa: S608
    return rows(await db.fetch(sql + where.param(limit), *where.args))


async def insert(db: Connection, resource: Resource, values: Mapping[str, Any]) -> Row:
    holes = ", ".join(f"${number}" for number in range(1, len(values) + 1))
    sql = (
        f"INSERT INTO {resource.table} ({', '.join(values)}) VALUES ({holes}) "  # noqa: S608 - program text only
        f"RETURNING {_columns(resource)}"
    )
    return dict(await db.fetchrow(sql, *values.values()))


async def update(db: Connection, resource: Resource, key: Sequence[Any], values: Mapping[str, Any]) -> Row:
    """Of a row that `get` locked. The table's trigger counts the version, if anything really changed."""
    where = Where()
    changes = ", ".join(f"{name} = {where.param(value)}" for name, value in values.items())
    _by_key(where, resource, key)
    sql = f"UPDATE {resource.table} SET {changes} WHERE {where} RETURNING {_columns(resource)}"  # noqa: S608
    return dict(await db.fetchrow(sql, *where.args))


async def delete(db: Connection, resource: Resource, key: Sequence[Any]) -> None:
    where = _by_key(Where(), resource, key)
    await db.execute(f"DELETE FROM {resource.table} WHERE {where}", *where.args)  # noqa: S608
