"""Personal data at rest: encrypted under a key of the customer's own, found again by a keyed hash. Pure.

- A *customer key* is 32 random bytes. It encrypts that customer's fields (AES-256-GCM), each bound to
  customer and field, so that a ciphertext moved to another row or column does not decrypt.
- A *master key* wraps customer keys (AES-256-GCM, bound to the customer). Master keys are secrets of the
  installation; the first one given wraps, all of them unwrap, so that one can be replaced by another.
- Deleting the wrapped key makes every copy of the customer's data unreadable, wherever it went: databases,
  topics, the lake, backups (crypto-shredding).
- The *blind index* of an e-mail address is its HMAC-SHA256 under a secret of its own: equal addresses have
  equal indexes, and without the secret nobody can try addresses.

A ciphertext is text: ``pd1.`` and base64url, unpadded, of nonce (12 bytes), ciphertext and tag. It differs
each time, so whoever writes keeps the old one of a value that did not change (:func:`keep_or_encrypt`).
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import os
import unicodedata
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

PERSONAL_FIELDS: Final = ("name", "email", "phone", "address")
"""Of a customer; in the order of the table's columns."""

KEY_BYTES: Final = 32
_NONCE_BYTES: Final = 12
_PREFIX: Final = "pd1."
_SEPARATOR: Final = "\x1f"


class PersonalDataError(Exception):
    """A key or ciphertext cannot be used: of another key, customer or field, damaged, or none at all."""


@dataclass(frozen=True, slots=True)
class WrappedKey:
    """A customer key as it is stored; ``master_key`` names the master key that wrapped it."""

    wrapped: bytes
    master_key: str


@dataclass(frozen=True, slots=True)
class CustomerKey:
    """Encrypts and decrypts the fields of one customer."""

    customer_id: str
    raw: bytes = field(repr=False)

    def encrypt(self, name: str, value: str) -> str:
        """The ciphertext of one field, another one each time."""
        sealed = _seal(self.raw, value.encode(), self._context(name))
        return _PREFIX + base64.urlsafe_b64encode(sealed).rstrip(b"=").decode("ascii")

    def decrypt(self, name: str, ciphertext: str) -> str:
        """Raises :class:`PersonalDataError`."""
        if not is_ciphertext(ciphertext):
            raise PersonalDataError(f"{name} of {self.customer_id} is no ciphertext")
        encoded = ciphertext.removeprefix(_PREFIX)
        try:
            sealed = base64.b64decode(encoded + "=" * (-len(encoded) % 4), altchars=b"-_", validate=True)
        except (binascii.Error, ValueError):
            raise PersonalDataError(f"{name} of {self.customer_id} is damaged") from None
        return _open(self.raw, sealed, self._context(name), f"{name} of {self.customer_id}").decode()

    def keep_or_encrypt(self, name: str, value: str | None, old: str | None) -> str | None:
        """The old ciphertext where it holds this value already, else a new one; None for None."""
        if value is None:
            return None
        if old is not None:
            try:
                if self.decrypt(name, old) == value:
                    return old
            except PersonalDataError:
                pass  # of a key that was shredded, or plain text of another writer: replaced
        return self.encrypt(name, value)

    def _context(self, name: str) -> bytes:
        return f"{self.customer_id}{_SEPARATOR}{name}".encode()


class Keyring:
    """The installation's secrets: master keys, the first of which wraps, and the key of blind indexes."""

    def __init__(self, master_keys: Sequence[bytes], index_key: bytes) -> None:
        if not master_keys:
            raise ValueError("at least one master key is needed")
        for key in (*master_keys, index_key):
            if len(key) != KEY_BYTES:
                raise ValueError(f"a key has {KEY_BYTES} bytes, not {len(key)}")
        self._masters = {key_id(key): key for key in master_keys}
        self._current = key_id(master_keys[0])
        self._index_key = index_key

    @classmethod
    def from_hex(cls, master_keys: str, index_key: str) -> Keyring:
        """``master_keys``: hexadecimal, comma-separated. Raises ``ValueError`` that tells none of them."""
        try:
            return cls([bytes.fromhex(key) for key in master_keys.split(",")], bytes.fromhex(index_key))
        except ValueError:
            raise ValueError(
                f"master keys and index key must be {2 * KEY_BYTES} hexadecimal digits each"
            ) from None

    def new_key(self, customer_id: str) -> tuple[CustomerKey, WrappedKey]:
        """A random key for a customer, and what to store of it."""
        key = CustomerKey(customer_id, os.urandom(KEY_BYTES))
        return key, self.wrap(key)

    def wrap(self, key: CustomerKey) -> WrappedKey:
        sealed = _seal(self._masters[self._current], key.raw, key.customer_id.encode())
        return WrappedKey(sealed, self._current)

    def unwrap(self, customer_id: str, stored: WrappedKey) -> CustomerKey:
        """Raises :class:`PersonalDataError`, too where the master key is not among those given."""
        master = self._masters.get(stored.master_key)
        if master is None:
            raise PersonalDataError(f"the key of {customer_id} was wrapped by master key {stored.master_key}")
        return CustomerKey(
            customer_id, _open(master, stored.wrapped, customer_id.encode(), f"the key of {customer_id}")
        )

    def email_index(self, email: str) -> str:
        """Blind index of an address: 64 hexadecimal digits; case and surrounding space do not matter."""
        normal = unicodedata.normalize("NFKC", email).strip().casefold()
        return hmac.new(
            self._index_key, b"email" + _SEPARATOR.encode() + normal.encode(), hashlib.sha256
        ).hexdigest()


def is_ciphertext(text: str) -> bool:
    """Whether the text has the form of a ciphertext; a foreign source's plain data has not."""
    return text.startswith(_PREFIX)


def key_id(key: bytes) -> str:
    """Names a master key without telling it."""
    return hashlib.sha256(b"tillstream master key" + key).hexdigest()[:16]


def decrypt_fields(
    key: CustomerKey | None, row: Mapping[str, str | None], on_error: Callable[[str], None] = lambda _: None
) -> dict[str, str | None]:
    """The personal fields of a row in clear; None where there is none, or it cannot be read any more.

    ``on_error`` is given the name of each field that has a value and cannot be read.
    """
    clear: dict[str, str | None] = {}
    for name in PERSONAL_FIELDS:
        value = row[name]
        clear[name] = None
        if value is None:
            continue
        try:
            if key is None:
                raise PersonalDataError(f"the key of {name} is gone")
            clear[name] = key.decrypt(name, value)
        except PersonalDataError:
            on_error(name)
    return clear


def _seal(key: bytes, clear: bytes, context: bytes) -> bytes:
    nonce = os.urandom(_NONCE_BYTES)
    return nonce + AESGCM(key).encrypt(nonce, clear, context)


def _open(key: bytes, sealed: bytes, context: bytes, what: str) -> bytes:
    try:
        return AESGCM(key).decrypt(sealed[:_NONCE_BYTES], sealed[_NONCE_BYTES:], context)
    except (InvalidTag, ValueError):
        raise PersonalDataError(f"{what} does not decrypt") from None
