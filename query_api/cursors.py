"""Opaque cursors of the keyset pagination over sales. Pure.

A cursor names the last row seen by its sort key (invoice_ts, event_id), not by its position: rows that
are inserted meanwhile neither repeat nor hide another.
Layout: base64url, unpadded, of version byte 0x01, invoice_ts in microseconds since 1970 (signed, 8 bytes,
big-endian), event_id in UTF-8.
"""

from __future__ import annotations

import base64
import binascii
import struct
from datetime import UTC, datetime, timedelta
from typing import NamedTuple

_VERSION = 1
_HEAD = struct.Struct(">bq")
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MAX_CHARS = 1024


class SaleCursor(NamedTuple):
    """The sort key of one row; `invoice_ts` in UTC."""

    invoice_ts: datetime
    event_id: str


class BadCursorError(ValueError):
    """The text is no cursor of this API."""


def encode(cursor: SaleCursor) -> str:
    micros = (cursor.invoice_ts - _EPOCH) // timedelta(microseconds=1)
    packed = _HEAD.pack(_VERSION, micros) + cursor.event_id.encode()
    return base64.urlsafe_b64encode(packed).rstrip(b"=").decode("ascii")


def decode(text: str) -> SaleCursor:
    """Raises `BadCursorError`."""
    if len(text) > _MAX_CHARS:
        raise BadCursorError("the cursor is too long")
    try:
        packed = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
        version, micros = _HEAD.unpack_from(packed)
        event_id = packed[_HEAD.size :].decode()
        invoice_ts = _EPOCH + timedelta(microseconds=micros)
    except (binascii.Error, struct.error, UnicodeError, ValueError, OverflowError):
        raise BadCursorError("not a cursor of this API") from None
    if version != _VERSION or "\x00" in event_id:
        raise BadCursorError("not a cursor of this API")
    return SaleCursor(invoice_ts, event_id)
