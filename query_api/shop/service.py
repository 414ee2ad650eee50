"""What is done for a request of REST v1. Every change is one transaction:

1. claim the Idempotency-Key, or hand back the answer that the request got before;
2. lock the row, and compare what the client demands of its version;
3. encrypt personal fields, and write;
4. keep the answer under the key, and commit.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any
from urllib.parse import quote

import orjson

from query_api.errors import NotFoundError, PreconditionFailedError
from query_api.shop import paging, repository
from query_api.shop.access import Permission, Principal
from query_api.shop.conditions import Tags, etag, require_match
from query_api.shop.database import Connection, Database
from query_api.shop.idempotency import Answer, Once
from query_api.shop.models import Body
from query_api.shop.personal import PersonalData
from query_api.shop.repository import Row
from query_api.shop.resources import Resource
from query_api.values import datetime_text, decimal_text
from schemas.personal import PERSONAL_FIELDS, CustomerKey

Key = tuple[Any, ...]


@dataclass(frozen=True, slots=True)
class Demands:
    """Of a request on what it changes: `once` is its Idempotency-Key."""

    match: Tags | None = None
    none_match: Tags | None = None
    once: Once | None = None


class Shop:
    def __init__(self, database: Database, personal: PersonalData) -> None:
        self._database = database
        self._personal = personal

    async def get(self, resource: Resource, key: Key, who: Principal) -> Row:
        """The row in clear. Raises NotFoundError."""
        async with self._database.transaction(read_only=True) as db:
            row = await repository.get(db, resource, key)
            if row is None:
                raise _missing(resource, key)
            return (await self._clear(db, resource, [row], who))[0]

    async def page(
        self, resource: Resource, filters: Mapping[str, Any], first: int, after: str | None, who: Principal
    ) -> dict[str, Any]:
        """`items`, and in `next` the cursor of the rows that follow, or None."""
        behind = None if after is None else paging.decode(resource, after)
        wanted = dict(filters)
        if resource.personal and "email" in wanted:
            wanted["email"] = self._personal.email_index(wanted["email"])
        async with self._database.transaction(read_only=True) as db:
            rows = await repository.page(db, resource, wanted, behind, first + 1)
            found = await self._clear(db, resource, rows[:first], who)
        more = len(rows) > first and found
        last = paging.encode(resource, [found[-1][name] for name in resource.key]) if more else None
        return {"items": [represent(resource, row) for row in found], "next": last}

    async def create(self, resource: Resource, body: Body, demands: Demands, who: Principal) -> Answer:
        """201. Raises ConflictError where it exists."""
        key = tuple(getattr(body, name) for name in resource.key)

        async def write(db: Connection) -> Answer:
            return await self._insert(db, resource, key, body, who)

        return await self._change(resource, key, demands, write)

    async def put(self, resource: Resource, key: Key, body: Body, demands: Demands, who: Principal) -> Answer:
        """Replace what If-Match names, 200, or with `If-None-Match: *` make it, 201."""

        async def write(db: Connection) -> Answer:
            old = await repository.get(db, resource, key, lock=True)  # 2
            if demands.none_match is not None:
                if old is not None:
                    raise PreconditionFailedError("it exists already")
                return await self._insert(db, resource, key, body, who)
            if old is None:
                raise _missing(resource, key)
            require_match(demands.match, old)
            return await self._update(db, resource, key, body, old=old, who=who)

        return await self._change(resource, key, demands, write)

    async def patch(
        self,
        resource: Resource,
        key: Key,
        apply: Callable[[Mapping[str, Any]], Body],
        demands: Demands,
        who: Principal,
    ) -> Answer:
        """`apply` makes the new fields of the old ones, as the API writes them."""

        async def write(db: Connection) -> Answer:
            old = await repository.get(db, resource, key, lock=True)  # 2
            if old is None:
                raise _missing(resource, key)
            require_match(demands.match, old)
            everything = Principal(who.subject, frozenset(Permission))
            (clear,) = await self._clear(db, resource, [old], everything)
            shown = represent(resource, clear)
            body = apply({name: shown[name] for name in resource.writable})
            return await self._update(db, resource, key, body, old=old, who=who)

        return await self._change(resource, key, demands, write)

    async def delete(self, resource: Resource, key: Key, demands: Demands) -> Answer:
        """204."""

        async def write(db: Connection) -> Answer:
            old = await repository.get(db, resource, key, lock=True)  # 2
            if old is None:
                raise _missing(resource, key)
            require_match(demands.match, old)
            await repository.delete(db, resource, key)  # 3
            return Answer(204, {})

        return await self._change(resource, key, demands, write)

    async def erase(self, resource: Resource, key: Key) -> Answer:
        """204: the customer's key is gone, and their personal fields are empty. Nothing brings them back."""
        async with self._database.transaction() as db:
            row = await repository.get(db, resource, key, lock=True)
            erased = await self._personal.erase(db, str(key[0]))
            if row is None and not erased:
                raise _missing(resource, key)
            if row is not None:
                empty = dict.fromkeys((*PERSONAL_FIELDS, "email_index"))
                await repository.update(db, resource, key, empty)
        return Answer(204, {})

    async def _change(
        self, resource: Resource, key: Key, demands: Demands, write: Callable[[Connection], Any]
    ) -> Answer:
        async with self._database.transaction() as db:
            once = demands.once
            if once is not None:
                earlier = await once.earlier(db, await self._key(db, resource, key))  # 1
                if earlier is not None:
                    return earlier
            answer: Answer = await write(db)
            if once is not None:
                await once.keep(db, answer, await self._key(db, resource, key))  # 4
            return answer

    async def _insert(
        self, db: Connection, resource: Resource, key: Key, body: Body, who: Principal
    ) -> Answer:
        values = await self._sealed(db, resource, key, body, None)
        row = await repository.insert(
            db, resource, {**dict(zip(resource.key, key, strict=True)), **values}
        )  # 3
        return await self._shown(
            db, resource, row, who, status=201, headers={"Location": location(resource, key)}
        )

    async def _update(
        self, db: Connection, resource: Resource, key: Key, body: Body, *, old: Row, who: Principal
    ) -> Answer:
        values = await self._sealed(db, resource, key, body, old)
        row = await repository.update(db, resource, key, values)  # 3
        return await self._shown(db, resource, row, who, status=200)

    async def _sealed(
        self, db: Connection, resource: Resource, key: Key, body: Body, old: Row | None
    ) -> dict[str, Any]:
        values = {name: getattr(body, name) for name in resource.writable}
        if not resource.personal:
            return values
        return await self._personal.seal(db, str(key[0]), values, old)

    async def _shown(
        self,
        db: Connection,
        resource: Resource,
        row: Row,
        who: Principal,
        *,
        status: int,
        headers: dict[str, str] | None = None,
    ) -> Answer:
        (clear,) = await self._clear(db, resource, [row], who)
        body = orjson.dumps(represent(resource, clear))
        return Answer(status, {**(headers or {}), "ETag": etag(row)}, body)

    async def _clear(
        self, db: Connection, resource: Resource, rows: Sequence[Row], who: Principal
    ) -> list[Row]:
        if not resource.personal:
            return list(rows)
        if not who.may(Permission.READ_PERSONAL):
            return [{**row, **dict.fromkeys(PERSONAL_FIELDS)} for row in rows]
        return await self._personal.open(db, rows)

    async def _key(self, db: Connection, resource: Resource, key: Key) -> CustomerKey | None:
        return await self._personal.key(db, str(key[0])) if resource.personal else None


def represent(resource: Resource, row: Row) -> dict[str, Any]:
    """A row as the API writes it: decimals as text, times in ISO 8601."""
    shown = {}
    for name in resource.returned:
        value = row[name]
        if isinstance(value, Decimal):
            value = decimal_text(value)
        elif isinstance(value, datetime):
            value = datetime_text(value)
        shown[name] = value
    return shown


def location(resource: Resource, key: Key) -> str:
    """The path of an item."""
    parts = [datetime_text(part) if isinstance(part, datetime) else str(part) for part in key]
    return "/".join((resource.path, *(quote(part, safe=":") for part in parts)))


def _missing(resource: Resource, key: Key) -> NotFoundError:
    named = " ".join(datetime_text(part) if isinstance(part, datetime) else str(part) for part in key)
    return NotFoundError(f"there is no {resource.singular} {named}")
