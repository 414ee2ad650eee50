"""CSV records to sales: the header decides the columns, and a line's number is its ordinal in its invoice.

Malformed lines are refused one by one with their bytes, and keep their place: a line whose invoice can be
read counts in that invoice, so that mending it later changes no other line's identity.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import BinaryIO, Final

import polars as pl

from ingest_service import careful, columns, csv_records
from ingest_service.csv_records import FIELD
from ingest_service.model import (
    ATTRIBUTES,
    SALES,
    TEXT_FIELDS,
    Defaults,
    Parsed,
    Refusal,
    merged,
    no_attributes,
    refused_frame,
    sales_frame,
)

# Names without case, spaces and underscores. The second year of the data set has other headings than the first.
_NAMES: Final = {name.replace("_", ""): name for name in TEXT_FIELDS} | {
    "invoice": "invoice_no",
    "invoicedate": "invoice_ts",
    "price": "unit_price",
}
_HEADINGS: Final = {
    "invoice_no": "InvoiceNo",
    "stock_code": "StockCode",
    "description": "Description",
    "quantity": "Quantity",
    "invoice_ts": "InvoiceDate",
    "unit_price": "UnitPrice",
    "customer_id": "CustomerID",
    "country": "Country",
}
"""Every file needs these columns; a value may be empty."""
_KEPT_EMPTY: Final = ("invoice_no", "stock_code")
"""Where empty is a value, that quality has a rule for."""
_MAX_COLUMNS: Final = 100
_SHOWN: Final = 300


class BadFile(Exception):  # noqa: N818 - an answer about a file, not a fault
    """The file as a whole cannot be read; the message is for the person who sent it."""


@dataclass(frozen=True, slots=True)
class Header:
    """`columns[i]` is the field of a sale in column i, or an attribute's name where `known[i]` is false."""

    columns: tuple[str, ...]
    known: tuple[bool, ...]

    def __len__(self) -> int:
        return len(self.columns)

    @property
    def invoice(self) -> int:
        return self.columns.index("invoice_no")

    @property
    def attributes(self) -> list[str]:
        return [name for name, known in zip(self.columns, self.known, strict=True) if not known]


def parse(
    stream: BinaryIO, defaults: Defaults, block_bytes: int = csv_records.BLOCK_BYTES
) -> Iterator[Parsed]:
    """Block by block. Ordinals count the records of the file from 1, the header apart.

    Raises `BadFile`, before the first block where the header is the reason.
    """
    blocks = csv_records.records(stream, block_bytes)
    try:
        first = next(blocks, None)
        if first is None:
            raise BadFile("the file is empty; its first line must name the columns")
        header = read_header(first.row(0, named=True)["text"])
        lines = _Lines(header, defaults)
        yield lines.parse(first.slice(1))
        for block in blocks:
            yield lines.parse(block)
    except csv_records.LineTooLong as error:
        raise BadFile(str(error)) from error


def read_header(text: str | None) -> Header:
    if text is None:
        raise BadFile("the first line is not UTF-8; save the file as UTF-8")
    names = [name.strip() for name in next(csv.reader([text.removeprefix("\ufeff")]))]
    if len(names) > _MAX_COLUMNS:
        raise BadFile(f"the header has {len(names)} columns; at most {_MAX_COLUMNS} are read")
    plain = [name.lower().replace("_", "").replace(" ", "") for name in names]
    fields = tuple(_NAMES.get(key, name) for key, name in zip(plain, names, strict=True))
    found = text.strip()[:_SHOWN]
    wanted = _HEADINGS if "unit_price_micros" not in fields else _HEADINGS | {"unit_price": "unit_price_micros"}
    missing = [title for field, title in wanted.items() if field not in fields and title not in fields]
    if missing:
        raise BadFile(f"missing column{'s' * (len(missing) > 1)} {', '.join(missing)}; the header is: {found}")
    if len(set(fields)) < len(fields):
        twice = next(name for i, name in enumerate(fields) if name in fields[:i])
        raise BadFile(f"column {twice} is given twice; the header is: {found}")
    if "" in fields:
        raise BadFile(f"column {fields.index('') + 1} has no name; the header is: {found}")
    return Header(fields, tuple(key in _NAMES for key in plain))


class _Lines:
    """Carries the ordinals of the file and of each invoice from block to block."""

    def __init__(self, header: Header, defaults: Defaults) -> None:
        self._header = header
        self._defaults = defaults
        self._seen = 0
        self._counts = pl.DataFrame(schema={"invoice": pl.String, "carried": pl.UInt32})
        others = len(header) - 1
        self._exact = "^(?s:" + ",".join(f"({FIELD})" for _ in header.columns) + ")$"
        self._invoice = f"^(?s:(?:{FIELD},){{{header.invoice}}}({FIELD})(?:,|$))"
        assert others >= 0

    def parse(self, records: pl.DataFrame) -> Parsed:
        """`records`: columns of `csv_records.RECORDS`."""
        frame = records.with_row_index("ordinal", self._seen + 1).cast({"ordinal": pl.Int64})
        self._seen += frame.height
        cells = self._cells(frame)
        numbered = self._numbered(frame, cells)
        fast = self._columnar(numbered, cells)
        rest = numbered.join(fast.select("ordinal"), on="ordinal", how="anti", maintain_order="left")
        slow = self._one_by_one(rest, cells)
        return Parsed(merged(fast, slow.sales), slow.refused)
