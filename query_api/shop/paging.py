"""Opaque cursors of the keyset pagination over a table by its primary key. Pure.

Layout: base64url, unpadded, of a JSON array: 1 (the version), the resource's name, and the key of the last
row seen as text. It names a row and not a position, so rows that come or go meanwhile neither repeat nor
hide another.
"""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Sequence
from datetime import datetime
from typing import Any

from query_api.errors import BadInputError
from query_api.shop.resources import Resource
from query_api.values import datetime_text

_VERSION = 1
_MAX_CHARS = 2048


def encode(resource: Resource, key: Sequence[Any]) -> str:
    parts = [datetime_text(part) if isinstance(part, datetime) else part for part in key]
    text = json.dumps([_VERSION, resource.name, *parts], ensure_ascii=False, separators=(",", ":"))
    return base64.urlsafe_b64encode(text.encode()).rstrip(b"=").decode("ascii")


def decode(resource: Resource, text: str) -> tuple[Any, ...]:
    """The key. Raises BadInputError."""
    try:
        if len(text) > _MAX_CHARS:
            raise ValueError
        packed = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
        version, name, *parts = json.loads(packed)
        if (version, name) != (_VERSION, resource.name) or not all(isinstance(part, str) for part in parts):
            raise ValueError
        return tuple(parse(part) for parse, part in zip(resource.key.values(), parts, strict=True))
    except (ValueError, TypeError, binascii.Error, RecursionError):
        raise BadInputError(f"after: not a cursor of {resource.name}") from None
