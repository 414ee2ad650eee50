"""The work of the stage on one record, as one writes it for a processor that hands records over one by one.

Deliberately plain and fast Python: no classes and no dispatch per record, everything bound to local names. It
needs fastavro and the standard library alone, so that it runs in the environment of every peer.
"""

from __future__ import annotations

import io
import re
from collections.abc import Callable
from copy import deepcopy
from typing import Any

import fastavro

Output = tuple[bytes, bytes]
"""Key and value of the record to produce."""

_HEADER_BYTES = 5
_LIMIT = 10**18
_LONG = 200


def without_logical_types(schema: dict[str, Any]) -> dict[str, Any]:
    """fastavro would make a datetime of every timestamp, which costs more than the rest of the decoding."""
    plain = deepcopy(schema)
    for field in plain["fields"]:
        if isinstance(field["type"], dict) and "logicalType" in field["type"]:
            field["type"] = field["type"]["type"]
    return plain


def rejected(row: dict[str, Any], currencies: frozenset[str], now_ms: int) -> bool:
    """Whether one of the contract's eight rejecting rules over columns applies."""
    invoice, quantity, price = row["invoice_no"], row["quantity"], row["unit_price_micros"]
    customer, country = row["customer_id"], row["country"]
    total = quantity * price
    return (
        invoice == ""
        or row["stock_code"] == ""
        or quantity == 0
        or (quantity < 0 and invoice[:1] != "C")
        or price < 0
        or row["currency"] not in currencies
        or not 946684800000 <= row["invoice_ts"] <= now_ms + 86400000
        or price >= _LIMIT
        or not -_LIMIT < total < _LIMIT
        or len(row["event_id"]) > _LONG
        or len(row["source_system"]) > _LONG
        or len(invoice) > _LONG
        or len(row["stock_code"]) > _LONG
        or (customer is not None and len(customer) > _LONG)
        or (country is not None and len(country) > _LONG)
    )


def stage(
    document: dict[str, Any], is_new: Callable[[str], bool] | None = None
) -> Callable[[bytes], Output | None]:
    """The transform: a framed raw sale in; key and framed output out, None where it is rejected or known.

    `is_new` tells whether an event id is seen for the first time; without it a set in memory does.
    """
    reader = fastavro.parse_schema(without_logical_types(document["raw_schema"]))
    writer = fastavro.parse_schema(without_logical_types(document["out_schema"]))
    header = b"\x00" + document["out_schema_id"].to_bytes(4, "big")
    currencies, now_ms = frozenset(document["currencies"]), document["now_ms"]
    products, by_key = document["products"], document["countries"]
    read, write, bytes_io = fastavro.schemaless_reader, fastavro.schemaless_writer, io.BytesIO
    is_product = re.compile(r"[0-9]{5}[A-Za-z]*").fullmatch
    unknown = (None, None)
    resolved: dict[str | None, Any] = {None: unknown}
    seen: set[str] = set()
    out = bytes_io()

    def place(country: str) -> Any:
        # Resolved once per distinct name, as the columns do it.
        found = by_key.get(" ".join(country.split()).lower(), unknown)
        resolved[country] = found
        return found

    def process(value: bytes) -> Output | None:
        source = bytes_io(value)
        source.seek(_HEADER_BYTES)
        row: Any = read(source, reader, None)
        if rejected(row, currencies, now_ms):
            return None
        event_id = row["event_id"]
        if is_new is not None:
            if not is_new(event_id):
                return None
        elif event_id in seen:
            return None
        else:
            seen.add(event_id)
        country = row["country"]
        where = resolved.get(country) or place(country)
        row["country_code"], row["region"] = where
        code, invoice = row["stock_code"], row["invoice_no"]
        row["category"], row["supplier"] = products.get(code, unknown)
        row["total_amount_micros"] = row["quantity"] * row["unit_price_micros"]
        row["is_return"] = invoice[:1] == "C"
        row["is_product"] = is_product(code) is not None
        out.seek(0)
        out.truncate()
        out.write(header)
        write(out, writer, row)
        return invoice.encode(), out.getvalue()

    return process


def event_id_of(value: bytes) -> str:
    """The event id of a framed record of ours: the first field of both schemas."""
    length, shift, at = 0, 0, _HEADER_BYTES
    while True:
        byte = value[at]
        length |= (byte & 0x7F) << shift
        at, shift = at + 1, shift + 7
        if byte < 0x80:
            break
    size = length >> 1
    return value[at : at + size].decode()
