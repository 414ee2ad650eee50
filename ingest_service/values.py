"""Reading one value of one field: the scalar definitions that `columns.py` follows for whole columns.

Every function takes a value as JSON or CSV gives it (text, `Decimal` for any JSON number, bool, list, dict)
and returns it typed, or raises `Unreadable` with a sentence that names field, value and remedy.
"""

from __future__ import annotations

import json
import re
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any, Final

from schemas import heartbeat

INT32: Final = (-(2**31), 2**31 - 1)
INT64: Final = (-(2**63), 2**63 - 1)
MAX_EVENT_ID: Final = 200

# Unicode's White_Space, which is what Polars trims; str.strip() would take U+001C..U+001F as well.
WHITE_SPACE: Final = (
    "\t\n\v\f\r \x85\xa0\u1680\u2000\u2001\u2002\u2003\u2004\u2005\u2006\u2007\u2008\u2009\u200a"
    "\u2028\u2029\u202f\u205f\u3000"
)

_WHOLE: Final = re.compile(r"[+-]?[0-9]{1,40}(\.0{0,40})?")
_DECIMAL: Final = re.compile(r"[+-]?([0-9]{1,40}(\.[0-9]{0,80})?|\.[0-9]{1,80})([eE][+-]?[0-9]{1,2})?")
_TIME: Final = re.compile(
    r"([0-9]{4})-([0-9]{2})-([0-9]{2})[ Tt]([0-9]{2}):([0-9]{2})(?::([0-9]{2})(?:[.,]([0-9]{1,30}))?)?"
    r" ?(?:([Zz]|UTC)|([+-])([01][0-9]|2[0-3])(?::?([0-5][0-9]))?)?"
)
_EPOCH: Final = datetime(1970, 1, 1)
_MILLISECOND: Final = timedelta(milliseconds=1)
# Years 1 to 9999: what Python, Java and PostgreSQL can all write down.
MIN_TIME_MS: Final = -62_135_596_800_000
MAX_TIME_MS: Final = 253_402_300_799_999

_SHOWN: Final = 40
_MAX_EXPONENT: Final = 60


class Unreadable(Exception):  # noqa: N818 - an answer about an item, not a fault
    """A value that cannot be what its field needs; the message is for the person who sent it."""


def shown(value: Any) -> str:
    """The value as JSON, shortened: what a message may quote of hostile input."""
    if isinstance(value, Decimal):
        text = str(value)
    elif isinstance(value, str):
        text = json.dumps(value[: _SHOWN + 1], ensure_ascii=True)
    elif isinstance(value, dict):
        return "an object"
    elif isinstance(value, list):
        return "an array"
    else:
        text = json.dumps(value)
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}..."


def text(field: str, value: Any) -> str:
    """Text as it is; a JSON number as plain digits without an exponent or trailing zeros."""
    if isinstance(value, Decimal):
        return _plain(field, value)
    if not isinstance(value, str):
        raise Unreadable(f"{field}: {shown(value)} is not text; send a string")
    if "\x00" in value:
        raise Unreadable(f"{field}: {shown(value)} holds U+0000, which databases refuse; remove it")
    try:
        value.encode()
    except UnicodeEncodeError as error:
        raise Unreadable(f"{field}: {shown(value)} holds half of a surrogate pair; send UTF-8") from error
    return value


def event_id(value: Any) -> str | None:
    """Trimmed; None where it is empty."""
    trimmed = text("event_id", value).strip(WHITE_SPACE)
    if len(trimmed) > MAX_EVENT_ID:
        raise Unreadable(f"event_id: {shown(trimmed)} is longer than {MAX_EVENT_ID} characters")
    if trimmed.startswith(heartbeat.PREFIX):
        raise Unreadable(
            f"event_id: ids that begin with {heartbeat.PREFIX} are the platform's own; choose another"
        )
    return trimmed or None


def whole(field: str, value: Any, bounds: tuple[int, int] = INT32) -> int:
    """A whole number within bounds; 6.0 is one."""
    trimmed = _number_text(field, value)
    if not _WHOLE.fullmatch(trimmed):
        raise Unreadable(f'{field}: {shown(value)} is not a whole number; send e.g. 6 or "6"')
    number = int(trimmed.partition(".")[0])
    if not bounds[0] <= number <= bounds[1]:
        raise Unreadable(f"{field}: {shown(value)} is out of range; it must be {bounds[0]} to {bounds[1]}")
    return number


def price_micros(value: Any) -> int:
    """A decimal with at most six places (further zeros do no harm) in millionths."""
    trimmed = _number_text("unit_price", value)
    if not _DECIMAL.fullmatch(trimmed):
        raise Unreadable(
            f'unit_price: {shown(value)} is not a decimal number; send e.g. "2.55", with a point, '
            "without thousands separators or currency sign"
        )
    sign, digits, exponent = Decimal(trimmed).as_tuple()
    assert isinstance(exponent, int)
    number = int("".join(map(str, digits)))  # at most 120 digits, and at most 105 zeros more
    factor: int = 10 ** abs(exponent + 6)
    if exponent >= -6:
        number *= factor
    else:
        number, lost = divmod(number, factor)
        if lost:
            raise Unreadable(
                f"unit_price: {shown(value)} has more than six decimals, which would be lost; round it"
            )
    number = -number if sign else number
    if not INT64[0] <= number <= INT64[1]:
        raise Unreadable(f"unit_price: {shown(value)} is out of range; it must be below 9 223 372 036 854")
    return number


def time_ms(value: Any) -> int:
    """Milliseconds since 1970 UTC: an ISO 8601 date and time (naive means UTC) or that number itself."""
    trimmed = _number_text("invoice_ts", value)
    if _WHOLE.fullmatch(trimmed):
        return whole("invoice_ts", value, (MIN_TIME_MS, MAX_TIME_MS))
    match = _TIME.fullmatch(trimmed)
    if match is None:
        raise Unreadable(
            f'invoice_ts: {shown(value)} is not a time; send e.g. "2010-12-01T08:26:00Z" or '
            '"2010-12-01 08:26:00" (taken as UTC), or milliseconds since 1970'
        )
    year, month, day, hour, minute, second, fraction, _, sign, off_hours, off_minutes = match.groups()
    try:
        local = datetime(int(year), int(month), int(day), int(hour), int(minute), int(second or 0))
    except ValueError as error:
        raise Unreadable(f"invoice_ts: {shown(value)} does not exist: {error}") from error
    offset_ms = (int(off_hours or 0) * 60 + int(off_minutes or 0)) * 60_000 * (-1 if sign == "-" else 1)
    # Truncated like every timestamp in milliseconds, so that it never falls into the next second.
    found = (local - _EPOCH) // _MILLISECOND + int((fraction or "0").ljust(3, "0")[:3]) - offset_ms
    if not MIN_TIME_MS <= found <= MAX_TIME_MS:
        raise Unreadable(f"invoice_ts: {shown(value)} lies outside the years 1 to 9999 in UTC")
    return found


def attribute(name: str, value: Any) -> str:
    """Any JSON value but null as the text of an attribute; objects and arrays stay JSON."""
    if isinstance(value, (dict, list)):
        return text(name, json.dumps(value, ensure_ascii=False, separators=(",", ":"), default=_json_number))
    if isinstance(value, bool):
        return "true" if value else "false"
    return text(name, value)


def _number_text(field: str, value: Any) -> str:
    if isinstance(value, Decimal):
        return _plain(field, value)
    if not isinstance(value, str):
        raise Unreadable(f"{field}: {shown(value)} is neither a number nor text")
    return value.strip(WHITE_SPACE)


def _plain(field: str, number: Decimal) -> str:
    """Never longer than the digits that were sent, whatever the exponent says."""
    if number.is_zero():
        return "0"
    if not -_MAX_EXPONENT <= number.adjusted() <= _MAX_EXPONENT:
        raise Unreadable(f"{field}: {shown(number)} is out of range")
    plain = format(number, "f")
    return plain.rstrip("0").rstrip(".") if "." in plain else plain


def _json_number(number: Any) -> int | float:
    """Inside a nested attribute a number is as exact as JSON readers commonly keep it."""
    plain = _plain("attributes", number)
    return float(plain) if "." in plain else int(plain)
