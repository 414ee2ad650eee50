"""One item at a time, with a reason for a person: what does not fit the columnar path comes here.

`json_sales.py` and `csv_sales.py` send here every row that they cannot read whole, so these functions
decide what is accepted; the columnar path may only be stricter. A test holds the two together.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from decimal import Decimal
from typing import Any, Final, TypeVar

from ingest_service import values
from ingest_service.model import TEXT_FIELDS, Defaults, Refusal
from ingest_service.values import INT32, INT64, Unreadable

_T = TypeVar("_T")

Sale = dict[str, Any]
"""A row of `model.SALES` but for the ordinal, with `invoice_ts` in milliseconds."""

_KNOWN: Final = frozenset(TEXT_FIELDS)


class NotJson(Exception):  # noqa: N818 - an answer about bytes, not a fault
    """`position`: of the first byte that cannot be, from the start of the text."""

    def __init__(self, message: str, position: int) -> None:
        super().__init__(message)
        self.position = position


def read_json(item: bytes) -> Any:
    """The JSON value with every number as `Decimal`. Raises `NotJson`, or `Unreadable` for a field given
    twice (readers differ in which one they take) or nesting that is too deep."""
    try:
        text = item.decode()
    except UnicodeDecodeError as error:
        raise NotJson(f"byte {error.start + 1} is not UTF-8; send UTF-8", error.start) from error
    try:
        return json.loads(
            text,
            object_pairs_hook=_object,
            parse_float=Decimal,
            parse_int=Decimal,
            parse_constant=_no_constant,
        )
    except json.JSONDecodeError as error:
        position = len(text[: error.pos].encode(errors="surrogatepass"))
        raise NotJson(f"{error.msg} at character {error.pos + 1}", position) from error
    except RecursionError as error:
        raise Unreadable("the item is nested too deeply; send a flat object") from error
    except ArithmeticError as error:
        raise Unreadable("a number in the item is out of any range") from error


def json_item(item: bytes, defaults: Defaults) -> Sale | Refusal:
    """Raises `NotJson`, which a caller may have to answer for the whole body."""
    try:
        document = read_json(item)
    except Unreadable as reason:
        return Refusal(str(reason), source_system=defaults.source)
    if not isinstance(document, dict):
        shown = values.shown(document)
        return Refusal(f"{shown} is not an object; send one JSON object per sale", None, defaults.source)
    return sale(document, defaults)


def sale(fields: Mapping[str, Any], defaults: Defaults) -> Sale | Refusal:
    """Typed from received fields; a field that is None counts as absent."""
    try:
        return _sale(fields, defaults)
    except Unreadable as reason:
        return _refusal(str(reason), fields, defaults)


def attributes(fields: Mapping[str, Any]) -> dict[str, str]:
    """The members of `attributes`, then every field of a name that a sale does not have."""
    found = fields.get("attributes")
    if found is not None and not isinstance(found, dict):
        raise Unreadable(f"attributes: {values.shown(found)} is not an object")
    merged = {n: v for n, v in fields.items() if n not in _KNOWN and n != "attributes"} | (found or {})
    named = ((values.text("attributes", name), value) for name, value in merged.items() if value is not None)
    return {name: values.attribute(name, value) for name, value in named}


def _sale(fields: Mapping[str, Any], defaults: Defaults) -> Sale:
    event_id = _optional(values.event_id, fields.get("event_id"))
    return {
        "event_id": event_id,
        "source_system": _source(fields, defaults),
        "invoice_no": _required_text(fields, "invoice_no"),
        "line_no": _line_no(fields, event_id),
        "stock_code": _required_text(fields, "stock_code"),
        "description": _optional_text(fields, "description"),
        "quantity": values.whole("quantity", _required(fields, "quantity"), INT32),
        "unit_price_micros": _price(fields),
        "currency": _currency(fields, defaults),
        "customer_id": _optional_text(fields, "customer_id"),
        "country": _optional_text(fields, "country"),
        "invoice_ts": values.time_ms(_required(fields, "invoice_ts")),
        "attributes": attributes(fields),
    }


def _refusal(detail: str, fields: Mapping[str, Any], defaults: Defaults) -> Refusal:
    quantity = _readable(lambda: values.whole("quantity", _required(fields, "quantity"), INT32))
    price = _readable(lambda: _price(fields))
    amount = None if quantity is None or price is None else quantity * price
    return Refusal(
        detail,
        event_id=_readable(lambda: _optional(values.event_id, fields.get("event_id"))),
        source_system=_readable(lambda: _source(fields, defaults)) or defaults.source,
        amount_micros=amount if amount is not None and INT64[0] <= amount <= INT64[1] else None,
        currency=_readable(lambda: _currency(fields, defaults)),
    )


def _source(fields: Mapping[str, Any], defaults: Defaults) -> str:
    given = (_optional_text(fields, "source_system") or "").strip(values.WHITE_SPACE)
    if defaults.fixed_source and given not in ("", defaults.source):
        raise Unreadable(
            f"source_system: {values.shown(given)} is not this webhook's source; leave the field out"
        )
    source = given or defaults.source
    if not source:
        raise Unreadable("source_system: missing; send the field, or ?source= for the whole request")
    return source


def _currency(fields: Mapping[str, Any], defaults: Defaults) -> str:
    currency = _optional_text(fields, "currency")
    if currency is None:
        currency = defaults.currency
    if currency is None:
        raise Unreadable("currency: missing; send the field, or ?currency= for the whole request")
    return currency


def _line_no(fields: Mapping[str, Any], event_id: str | None) -> int:
    """0 where the producer gave an id and no line."""
    given = fields.get("line_no")
    if given is not None:
        return values.whole("line_no", given, (1, INT32[1]))
    if event_id is None:
        raise Unreadable(
            "line_no: missing, and there is no event_id; send either, so that sending the sale again is "
            "not counted as another sale"
        )
    return 0


def _price(fields: Mapping[str, Any]) -> int:
    price, micros = fields.get("unit_price"), fields.get("unit_price_micros")
    if micros is None:
        return values.price_micros(_required(fields, "unit_price"))
    found = values.whole("unit_price_micros", micros, INT64)
    if price is not None and values.price_micros(price) != found:
        raise Unreadable("unit_price and unit_price_micros differ; send one of them")
    return found


def _required(fields: Mapping[str, Any], field: str) -> Any:
    value = fields.get(field)
    if value is None:
        raise Unreadable(f"{field}: missing; every sale needs it")
    return value


def _required_text(fields: Mapping[str, Any], field: str) -> str:
    return values.text(field, _required(fields, field))


def _optional_text(fields: Mapping[str, Any], field: str) -> str | None:
    value = fields.get(field)
    return None if value is None else values.text(field, value)


def _optional(read: Callable[[Any], _T], value: Any) -> _T | None:
    return None if value is None else read(value)


def _readable(read: Callable[[], _T]) -> _T | None:
    try:
        return read()
    except Unreadable:
        return None


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        seen: set[str] = set()
        twice = next(name for name, _ in pairs if name in seen or seen.add(name))  # type: ignore[func-returns-value]
        raise Unreadable(f"{values.shown(twice)} is given twice in one object; send it once")
    return found


def _no_constant(name: str) -> Any:
    raise Unreadable(f"{name} is not JSON; send null or a number")
