"""Entity tags and what a request demands of them (RFC 9110, sections 8.8.3 and 13). Pure.

A tag is the row's version and the microsecond of its last change: a row that was deleted and made anew never
has a tag of its former life.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from query_api.errors import BadInputError, PreconditionFailedError, PreconditionRequiredError

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_TAGS = re.compile(r'\s*(?:(?:W/)?"[\x21\x23-\x7e]*"\s*(?:,\s*|$))+')
_TAG = re.compile(r'(W/)?("[\x21\x23-\x7e]*")')


def etag(row: Mapping[str, Any]) -> str:
    """Of a row with `version` and `updated_at`."""
    micros = (row["updated_at"] - _EPOCH) // timedelta(microseconds=1)
    return f'"{row["version"]}-{micros:x}"'


@dataclass(frozen=True, slots=True)
class Tags:
    """The value of If-Match or If-None-Match; `any` for an asterisk."""

    any: bool
    strong: frozenset[str] = frozenset()
    weak: frozenset[str] = frozenset()

    @classmethod
    def parse(cls, header: str, text: str | None) -> Tags | None:
        """None where the header is not there. Raises BadInputError."""
        if text is None:
            return None
        if text.strip() == "*":
            return cls(any=True)
        if not _TAGS.fullmatch(text):
            raise BadInputError(f'{header} must be * or entity tags in quotes, such as "1-6152f3a0b1c2d"')
        found = _TAG.findall(text)
        strong = frozenset(tag for weak, tag in found if not weak)
        return cls(any=False, strong=strong, weak=frozenset(tag for _, tag in found))


def require_match(wanted: Tags | None, row: Mapping[str, Any]) -> None:
    """Raises PreconditionRequiredError (428) or PreconditionFailedError (412)."""
    if wanted is None:
        raise PreconditionRequiredError(
            "say which version you change: If-Match with the ETag of your last GET"
        )
    if not wanted.any and etag(row) not in wanted.strong:
        raise PreconditionFailedError("it was changed since: GET it again, and change that version")


def not_modified(wanted: Tags | None, row: Mapping[str, Any]) -> bool:
    """Whether a GET with this If-None-Match gets 304."""
    return wanted is not None and (wanted.any or etag(row) in wanted.weak)
