"""CSV records to sales: the header decides the columns, and a line's number is its ordinal in its invoice.

Malformed lines are refused one by one with their bytes, and keep their place: a line whose invoice can be
read counts in that invoice, so that mending it later changes no other line's identity.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, BinaryIO, Final

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
    context,
    merged,
    no_attributes,
    refused_frame,
    sales_frame,
)

# Without case, spaces and underscores. The second year of the data set has other headings than the first.
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
_COUNTS: Final = pl.Schema({"invoice": pl.String, "count": pl.Int64})
_FIELDS: Final = re.compile(r'(?:^|,)(?:"(?:[^"]|"")*+"|[^",][^,]*+|)', re.DOTALL)
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
        header = read_header(first["text"][0])
        lines = _Lines(header, defaults)
        yield lines.parse(first.slice(1))
        for block in blocks:
            yield lines.parse(block)
    except csv_records.LineTooLong as error:
        raise BadFile(str(error)) from error


def read_header(text: str | None) -> Header:
    if text is None:
        raise BadFile("the first line is not UTF-8; save the file as UTF-8")
    try:
        names = [
            name.strip() for name in next(csv.reader(io.StringIO(text.removeprefix("\ufeff"), newline="")))
        ]
    except csv.Error as error:
        raise BadFile(f"the header cannot be read: {error}") from error
    if len(names) > _MAX_COLUMNS:
        raise BadFile(f"the header has {len(names)} columns; at most {_MAX_COLUMNS} are read")
    plain = [name.lower().replace("_", "").replace(" ", "") for name in names]
    fields = tuple(_NAMES.get(key, name) for key, name in zip(plain, names, strict=True))
    found = text.strip()[:_SHOWN]
    wanted = (
        _HEADINGS if "unit_price_micros" not in fields else _HEADINGS | {"unit_price": "unit_price_micros"}
    )
    missing = [title for field, title in wanted.items() if field not in fields and title not in fields]
    if missing:
        raise BadFile(
            f"missing column{'s' * (len(missing) > 1)} {', '.join(missing)}; the header is: {found}"
        )
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
        self._counts = pl.DataFrame(schema=_COUNTS)
        self._exact = "^(?s:" + ",".join(f"({FIELD})" for _ in header.columns) + ")$"
        self._invoice = f"^(?s:(?:{FIELD},){{{header.invoice}}}({FIELD})(?:,.*)?)$"

    def parse(self, records: pl.DataFrame) -> Parsed:
        """`records`: columns of `csv_records.RECORDS`."""
        numbers = pl.int_range(self._seen + 1, self._seen + records.height + 1, dtype=pl.Int64, eager=True)
        self._seen += records.height
        frame = records.with_columns(numbers.alias("ordinal"))
        cells = self._cells(frame)
        lines = self._line_numbers(frame, cells)
        fast = self._columnar(cells, lines)
        rest = frame.join(fast.select("ordinal"), on="ordinal", how="anti", maintain_order="left")
        slow = self._one_by_one(rest, cells, lines)
        return Parsed(merged(fast, slow.sales), slow.refused)

    def _cells(self, frame: pl.DataFrame) -> pl.DataFrame:
        """`ordinal` and a String column for each of the header, of the records with as many fields."""
        sound = frame.filter(pl.col("flaw").is_null()).select("ordinal", "text", "quoted")
        plain, quoted = sound.filter(~pl.col("quoted")), sound.filter("quoted")
        count = len(self._header)
        names = [f"cell_{i}" for i in range(count)]
        split = pl.col("text").str.split_exact(",", count).struct.rename_fields([*names, "more"])
        cells = plain.select("ordinal", split).unnest("text")
        cells = cells.filter(pl.col(names[-1]).is_not_null() & pl.col("more").is_null()).drop("more")
        if quoted.is_empty():
            return cells
        groups = pl.col("text").str.extract_groups(self._exact).struct.rename_fields(names)
        unquoted = quoted.select("ordinal", groups).unnest("text").drop_nulls()
        return pl.concat([cells, unquoted.with_columns(_unquoted(pl.col(names)))]).sort("ordinal")

    def _line_numbers(self, frame: pl.DataFrame, cells: pl.DataFrame) -> pl.DataFrame:
        """`ordinal` and `line_no`, null where not even the invoice can be read."""
        read = cells.select("ordinal", invoice=pl.col(f"cell_{self._header.invoice}"))
        broken = frame.join(cells.select("ordinal"), on="ordinal", how="anti", maintain_order="left")
        if broken.height:
            text = pl.Series("text", [p.decode(errors="replace") for p in broken["payload"]], dtype=pl.String)
            found = _unquoted(pl.col("text").str.extract(self._invoice))
            guessed = broken.select("ordinal").with_columns(text.to_frame().select(invoice=found).to_series())
            legible = ~pl.col("invoice").str.contains("\ufffd|\x00").fill_null(True)
            read = pl.concat([read, guessed.filter(legible)]).sort("ordinal")
        read = read.with_columns(pl.col("invoice").str.strip_chars())
        within = read.with_columns(line_no=pl.col("ordinal").cum_count().over("invoice").cast(pl.Int64))
        carried = within.join(self._counts, on="invoice", how="left", maintain_order="left")
        lines = carried.select("ordinal", line_no=pl.col("line_no") + pl.col("count").fill_null(0))
        added = read.group_by("invoice").agg(count=pl.len().cast(pl.Int64))
        self._counts = pl.concat([self._counts, added]).group_by("invoice").agg(pl.col("count").sum())
        return lines

    def _columnar(self, cells: pl.DataFrame, lines: pl.DataFrame) -> pl.DataFrame:
        """Columns of SALES for the records that fit."""
        named = [
            _value(field, pl.col(f"cell_{i}")).alias(field)
            for i, field in enumerate(self._header.columns)
            if self._header.known[i]
        ]
        texts = cells.select(named)
        if "line_no" not in texts.columns:
            number = cells.join(lines, on="ordinal", how="left", maintain_order="left")["line_no"]
            texts = texts.with_columns(number.cast(pl.String))
        sales = columns.typed(texts, self._defaults)
        return (
            sales.with_columns(cells["ordinal"], self._attributes(cells)).filter("fits").select(SALES.names())
        )

    def _attributes(self, cells: pl.DataFrame) -> pl.Series:
        others = {
            name: f"cell_{i}" for i, name in enumerate(self._header.columns) if not self._header.known[i]
        }
        if not others:
            return no_attributes(cells.height)
        pairs = [
            pl.when(pl.col(cell) != "").then(pl.struct(key=pl.lit(name), value=pl.col(cell)))
            for name, cell in others.items()
        ]
        return cells.select(attributes=pl.concat_list(pairs).list.drop_nulls().cast(ATTRIBUTES)).to_series()

    def _one_by_one(self, rest: pl.DataFrame, cells: pl.DataFrame, lines: pl.DataFrame) -> Parsed:
        wide = rest.join(cells, on="ordinal", how="left", maintain_order="left")
        wide = wide.join(lines, on="ordinal", how="left", maintain_order="left")
        sales, refused = [], []
        for row in wide.iter_rows(named=True):
            found = self._judged(row)
            if isinstance(found, Refusal):
                located = replace(
                    found, detail=f"line {row['line']}: {found.detail}", context=self._context(row)
                )
                refused.append((row["ordinal"], row["payload"], located))
            else:
                sales.append({"ordinal": row["ordinal"], **found})
        return Parsed(sales_frame(sales), refused_frame(refused))

    def _context(self, row: Mapping[str, Any]) -> str | None:
        return context(self._defaults, columns=self._header.columns, line_no=row["line_no"])

    def _judged(self, row: Mapping[str, Any]) -> careful.Sale | Refusal:
        if row["flaw"] is not None:
            return Refusal(row["flaw"], source_system=self._defaults.source)
        if row["cell_0"] is None:
            count, wanted = len(_FIELDS.findall(row["text"])), len(self._header)
            detail = f"{count} fields where the header has {wanted}; quote a field that holds a comma"
            return Refusal(detail, source_system=self._defaults.source)
        cell = {name: row[f"cell_{i}"] for i, name in enumerate(self._header.columns)}
        fields: dict[str, Any] = {"line_no": None if row["line_no"] is None else str(row["line_no"])}
        others = {}
        for (name, value), known in zip(cell.items(), self._header.known, strict=True):
            if known:
                fields[name] = value if value != "" or name in _KEPT_EMPTY else None
            elif value != "":
                others[name] = value
        return careful.sale({**fields, "attributes": others}, self._defaults)


def _value(field: str, cell: pl.Expr) -> pl.Expr:
    return cell if field in _KEPT_EMPTY else pl.when(cell != "").then(cell)


def _unquoted(cell: pl.Expr) -> pl.Expr:
    inner = cell.str.strip_prefix('"').str.strip_suffix('"').str.replace_all('""', '"', literal=True)
    return pl.when(cell.str.starts_with('"')).then(inner).otherwise(cell).name.keep()
