"""How amounts, times and dates are written and read at the API. Pure.

Amounts are plain decimal text: no exponent, at least two and at most six places, no zeros after the
second place ("2.50", "0.00", "2.125", "-12.10"). Times are ISO 8601 in UTC with a `Z`, with milliseconds
or microseconds only where there are any.
"""

from __future__ import annotations

from datetime import UTC, date, datetime
from decimal import ROUND_HALF_EVEN, Context, Decimal, DecimalException

_SIX_PLACES = Decimal("0.000001")
_TWO_PLACES = 2
# Sums of numeric(20,6) stay far below 60 digits; the default 28 could round a hostile total.
_EXACT = Context(prec=100, rounding=ROUND_HALF_EVEN)


def decimal_text(value: Decimal) -> str:
    """An amount as the API writes it. `value` has at most six places (raises ValueError otherwise)."""
    text = format(value, "f")
    whole, _, places = text.partition(".")
    places = places.rstrip("0")
    if len(places) > -_SIX_PLACES.as_tuple().exponent:  # type: ignore[operator]
        raise ValueError(f"more than six places: {text}")
    if whole == "-0" and not places:
        whole = "0"
    return f"{whole}.{places.ljust(_TWO_PLACES, '0')}"


def parse_decimal(value: object) -> Decimal:
    """A finite decimal from text or an integer. Raises ValueError; a float is refused, it is not exact."""
    if isinstance(value, bool) or not isinstance(value, str | int):
        raise ValueError(f"not a decimal string: {value!r}")
    try:
        number = Decimal(value)
    except DecimalException:
        raise ValueError(f"not a decimal string: {value!r}") from None
    if not number.is_finite():
        raise ValueError(f"not a finite decimal: {value!r}")
    return number


def average(total: Decimal, count: int) -> Decimal | None:
    """`total` / `count`, rounded half to even at six places; null when there is nothing to divide by."""
    if count == 0:
        return None
    return _EXACT.quantize(_EXACT.divide(total, Decimal(count)), _SIX_PLACES)


def datetime_text(value: datetime) -> str:
    """`value` must carry a zone; it is written in UTC."""
    utc = value.astimezone(UTC)
    if utc.microsecond == 0:
        text = utc.isoformat(timespec="seconds")
    elif utc.microsecond % 1000 == 0:
        text = utc.isoformat(timespec="milliseconds")
    else:
        text = utc.isoformat(timespec="microseconds")
    return text.removesuffix("+00:00") + "Z"


def parse_datetime(value: object) -> datetime:
    """ISO 8601; a naive time is UTC, as everywhere in the platform. Raises ValueError."""
    if not isinstance(value, str):
        raise ValueError(f"not an ISO 8601 time: {value!r}")
    try:
        parsed = datetime.fromisoformat(value)
        return parsed.replace(tzinfo=UTC) if parsed.tzinfo is None else parsed.astimezone(UTC)
    except (ValueError, OverflowError):
        raise ValueError(f"not an ISO 8601 time: {value!r}") from None


def parse_date(value: object) -> date:
    """`YYYY-MM-DD`. Raises ValueError."""
    if not isinstance(value, str):
        raise ValueError(f"not a date (YYYY-MM-DD): {value!r}")
    try:
        return date.fromisoformat(value)
    except ValueError:
        raise ValueError(f"not a date (YYYY-MM-DD): {value!r}") from None


def date_key(day: date) -> int:
    """yyyymmdd, the partition key of the fact table."""
    return day.year * 10_000 + day.month * 100 + day.day
