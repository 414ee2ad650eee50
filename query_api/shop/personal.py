"""Customers' personal fields: clear at the API, ciphertext in the table, keys in `ops.customer_keys`."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from typing import Any

from query_api.errors import KeysMissingError
from query_api.shop.database import Connection
from schemas.personal import (
    PERSONAL_FIELDS,
    CustomerKey,
    Keyring,
    PersonalDataError,
    WrappedKey,
    decrypt_fields,
)

log = logging.getLogger(__name__)

_KEYS = (
    "SELECT customer_id, wrapped_key, master_key FROM ops.customer_keys WHERE customer_id = ANY($1::text[])"
)
_ADD = """
INSERT INTO ops.customer_keys (customer_id, wrapped_key, master_key) VALUES ($1, $2, $3)
ON CONFLICT (customer_id) DO NOTHING
"""


class PersonalData:
    """`keyring`: None where the service was given no secrets; customers then cannot be read or written."""

    def __init__(self, keyring: Keyring | None) -> None:
        self._given = keyring

    @property
    def _keyring(self) -> Keyring:
        if self._given is None:
            raise KeysMissingError("TILLSTREAM_MASTER_KEYS and TILLSTREAM_INDEX_KEY are not set")
        return self._given

    def email_index(self, email: str) -> str:
        return self._keyring.email_index(email)

    async def seal(
        self, db: Connection, customer_id: str, clear: Mapping[str, Any], old: Mapping[str, Any] | None
    ) -> dict[str, Any]:
        """`clear` with its personal fields encrypted and `email_index` added.

        A value that did not change keeps its ciphertext of `old`, so that change capture sees no change.
        """
        key = await self._key_to_write(db, customer_id)
        sealed = dict(clear)
        for name in PERSONAL_FIELDS:
            sealed[name] = key.keep_or_encrypt(name, clear[name], None if old is None else old[name])
        sealed["email_index"] = None if clear["email"] is None else self.email_index(clear["email"])
        return sealed

    async def open(self, db: Connection, rows: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
        """The rows with their personal fields in clear; null where they were erased or cannot be read."""
        found = list(rows)
        keys = await self._keys(db, [row["customer_id"] for row in found])
        opened = []
        for row in found:
            customer_id = row["customer_id"]

            def unreadable(name: str, customer_id: str = customer_id) -> None:
                log.warning("personal data cannot be read", extra={"customer_id": customer_id, "field": name})

            opened.append({**row, **decrypt_fields(keys.get(customer_id), row, unreadable)})
        return opened

    async def key(self, db: Connection, customer_id: str) -> CustomerKey | None:
        """None where there is none, or where it was erased."""
        return (await self._keys(db, [customer_id])).get(customer_id)

    async def erase(self, db: Connection, customer_id: str) -> bool:
        """Delete the key: no ciphertext of this customer can be read from now on. Whether there was one."""
        status: str = await db.execute("DELETE FROM ops.customer_keys WHERE customer_id = $1", customer_id)
        return not status.endswith(" 0")

    async def _keys(self, db: Connection, customer_ids: list[str]) -> dict[str, CustomerKey]:
        keys = {}
        for row in await db.fetch(_KEYS, customer_ids):
            customer_id = row["customer_id"]
            try:
                stored = WrappedKey(row["wrapped_key"], row["master_key"])
                keys[customer_id] = self._keyring.unwrap(customer_id, stored)
            except PersonalDataError as error:
                log.error("a customer's key cannot be used", extra={"reason": str(error)})
        return keys

    async def _key_to_write(self, db: Connection, customer_id: str) -> CustomerKey:
        """Raises KeysMissingError where there is a key that our master keys do not open."""
        _, wrapped = self._keyring.new_key(customer_id)
        # Whichever request comes first; the others take its key.
        await db.execute(_ADD, customer_id, wrapped.wrapped, wrapped.master_key)
        key = await self.key(db, customer_id)
        if key is None:
            raise KeysMissingError(f"the key of customer {customer_id} was made with another master key")
        return key
