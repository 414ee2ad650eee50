"""CSV to sales, against the standard library's reader: fields, ordinals, and lines that are no records."""

from __future__ import annotations

import csv
import io
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingest_service import csv_records, csv_sales
from ingest_service.csv_sales import BadFile
from ingest_service.model import Defaults, Parsed
from tests.unit.ingest_service.ingest_world import HEADER, PROPERTY

SAMPLES = Path(__file__).parents[3] / "samples" / "online-retail"
DEFAULTS = Defaults("online-retail", "GBP")
GOOD = b"536365,85123A,HOLDER,6,2010-12-01 08:26:00,2.55,17850.0,United Kingdom"


def parse(data: bytes, block: int = 1 << 20) -> Parsed:
    parts = list(csv_sales.parse(io.BytesIO(data), DEFAULTS, block))
    return Parsed(pl.concat([p.sales for p in parts]), pl.concat([p.refused for p in parts]))


def lines(*records: bytes, end: bytes = b"\n") -> bytes:
    return HEADER + end.join(records) + end


def expected(data: bytes) -> Iterator[dict[str, Any]]:
    """The oracle: one dict per line, as a person would read the file."""
    seen: Counter[str] = Counter()
    for ordinal, row in enumerate(csv.DictReader(io.StringIO(data.decode(), newline="")), 1):
        invoice = row["InvoiceNo"]
        seen[invoice.strip()] += 1
        time = datetime.strptime(row["InvoiceDate"], "%Y-%m-%d %H:%M:%S").replace(tzinfo=UTC)
        yield {
            "ordinal": ordinal,
            "source_system": "online-retail",
            "invoice_no": invoice,
            "line_no": seen[invoice.strip()],
            "stock_code": row["StockCode"],
            "description": row["Description"] or None,
            "quantity": int(row["Quantity"]),
            "unit_price_micros": int(Decimal(row["UnitPrice"]) * 1_000_000),
            "currency": "GBP",
            "customer_id": row["CustomerID"] or None,
            "country": row["Country"] or None,
            "invoice_ts": time.replace(tzinfo=None),
        }


def as_read(parsed: Parsed) -> list[dict[str, Any]]:
    return parsed.sales.drop("event_id", "attributes").to_dicts()


@pytest.mark.parametrize("path", sorted(SAMPLES.glob("*.csv")), ids=lambda path: path.stem)
@pytest.mark.parametrize("block", [1 << 20, 10_007])
def test_sample_days_read_as_the_standard_library_reads_them(path: Path, block: int) -> None:
    data = path.read_bytes()
    parsed = parse(data, block)
    assert parsed.refused.is_empty()
    assert as_read(parsed) == list(expected(data))


FIELD_TEXT = st.text(st.characters(codec="utf-8", exclude_characters="\x00\r"), max_size=10)
CELL = FIELD_TEXT | st.sampled_from(["a,b", 'say "x"', "two\nlines", "r\r\nn", '"', '""', ",", " padded "])


@PROPERTY
@given(
    st.lists(st.tuples(st.sampled_from(["1", "2", " 2 ", "C3"]), CELL, CELL), min_size=1, max_size=6),
    st.sampled_from([csv.QUOTE_MINIMAL, csv.QUOTE_ALL]),
    st.sampled_from(["\n", "\r\n"]),
    st.sampled_from([50, 173, 1 << 20]),
)
def test_whatever_a_csv_writer_writes_is_read_back(
    cells: list[tuple[str, str, str]], quoting: Any, end: str, block: int
) -> None:
    out = io.StringIO()
    writer = csv.writer(out, quoting=quoting, lineterminator=end)
    writer.writerow(HEADER.decode().strip().split(","))
    for invoice, description, country in cells:
        writer.writerow([invoice, "A1", description, 6, "2010-12-01 08:26:00", "2.55", "17850", country])
    data = out.getvalue().encode()
    assert as_read(parse(data, block)) == list(expected(data))


BROKEN = {
    "too few fields": (b"536365,85123A,6,2010-12-01", "4 fields where the header has 8"),
    "too many fields": (GOOD + b",x", "9 fields where the header has 8"),
    "quantity": (GOOD.replace(b",6,", b",six,"), 'quantity: "six"'),
    "price": (GOOD.replace(b"2.55", b"1,00").replace(b"1,00", b'"1,00"'), 'unit_price: "1,00"'),
    "no price": (GOOD.replace(b"2.55", b""), "unit_price: missing"),
    "time": (GOOD.replace(b"2010-12-01 08:26:00", b"12/1/2010 8:26"), "invoice_ts"),
    "not utf-8": (GOOD.replace(b"HOLDER", b"CAF\xe9"), "not UTF-8"),
    "zero byte": (GOOD.replace(b"HOLDER", b"A\x00"), "zero byte"),
    "text after quote": (GOOD.replace(b"HOLDER", b'"HOL"DER'), "after the closing quote"),
    "quote never closed": (GOOD.replace(b"HOLDER", b'"HOLDER'), "opened and not closed"),
}


@pytest.mark.parametrize(("broken", "told"), BROKEN.values(), ids=BROKEN.keys())
@pytest.mark.parametrize("block", [1 << 20, 64])
def test_malformed_line_is_refused_with_its_bytes_and_keeps_its_ordinal(
    broken: bytes, told: str, block: int
) -> None:
    parsed = parse(lines(GOOD, broken, GOOD, b"", GOOD, end=b"\r\n"), block)
    assert parsed.sales["ordinal"].to_list() == [1, 3, 4]
    assert parsed.sales["line_no"].to_list() == [1, 3, 4]
    (refused,) = parsed.refused.to_dicts()
    assert (refused["ordinal"], refused["payload"]) == (2, broken)
    assert refused["detail"].startswith("line 3: ")
    assert told in refused["detail"]


def test_line_whose_invoice_cannot_be_read_counts_in_none() -> None:
    parsed = parse(lines(GOOD, b"\xff\xfe,A", GOOD))
    assert parsed.sales["line_no"].to_list() == [1, 2]
    assert parsed.refused["ordinal"].to_list() == [2]


def test_refused_line_keeps_the_amount_that_could_be_read() -> None:
    parsed = parse(lines(BROKEN["time"][0], BROKEN["quantity"][0]))
    assert parsed.refused["amount_micros"].to_list() == [15_300_000, None]
    assert parsed.refused["currency"].to_list() == ["GBP", "GBP"]


def test_ordinals_of_an_invoice_go_on_across_blocks_and_interleaved_invoices() -> None:
    other = GOOD.replace(b"536365", b" 536366")
    parsed = parse(lines(*[GOOD, other] * 500), block=1000)
    assert parsed.sales["line_no"].to_list() == [n for n in range(1, 501) for _ in range(2)]


def test_stray_quote_costs_one_line_and_not_the_file() -> None:
    stray = GOOD.replace(b"HOLDER", b'"HOLDER')
    parsed = parse(lines(stray, *[GOOD] * (csv_records.MAX_LINES + 5)), block=5000)
    assert parsed.refused["ordinal"].to_list() == [1]
    assert parsed.sales.height == csv_records.MAX_LINES + 5


def test_quote_inside_an_unquoted_field_is_text() -> None:
    parsed = parse(lines(GOOD.replace(b"HOLDER", b'5" NAIL')))
    assert parsed.sales["description"].to_list() == ['5" NAIL']


@pytest.mark.parametrize("end", [b"", b"\n", b"\r\n"])
def test_last_line_counts_with_or_without_its_end(end: bytes) -> None:
    assert parse(HEADER + GOOD + b"\n" + GOOD + end).sales["ordinal"].to_list() == [1, 2]


def test_byte_order_mark_quoted_headings_and_our_own_names_are_read() -> None:
    header = (
        b'\xef\xbb\xbf"invoice_no",stock_code,Price,quantity,invoice_ts,"Customer ID",country,description'
    )
    parsed = parse(
        header + b",Till\n1,A,2.55,6,2010-12-01T08:26:00Z,,France,,7\n1,A,2.55,6,2010-12-01T08:26:00Z,,,,\n"
    )
    assert parsed.sales["unit_price_micros"].to_list() == [2_550_000] * 2
    assert parsed.sales["country"].to_list() == ["France", None]
    assert parsed.sales["attributes"].to_list() == [{"Till": "7"}, {}]


def test_columns_for_source_currency_and_line_take_the_place_of_the_defaults() -> None:
    header = HEADER.strip() + b",source_system,currency,line_no,event_id\n"
    parsed = parse(header + GOOD + b",till,EUR,9,e-1\n" + GOOD + b",,,2,\n")
    columns = parsed.sales.select("source_system", "currency", "line_no", "event_id")
    assert columns.rows() == [("till", "EUR", 9, "e-1"), ("online-retail", "GBP", 2, None)]


def test_empty_invoice_is_left_to_the_rules_of_quality() -> None:
    assert parse(lines(GOOD.replace(b"536365", b""))).sales["invoice_no"].to_list() == [""]


@pytest.mark.parametrize(
    ("data", "told"),
    [
        (b"", "the file is empty"),
        (b"\n\n", "the file is empty"),
        (HEADER.replace(b"Quantity,", b""), "missing column Quantity; the header is: InvoiceNo,StockCode"),
        (b"a,b\n1,2\n", "missing columns InvoiceNo, StockCode"),
        (HEADER.replace(b"Country", b"Country,Invoice"), "column invoice_no is given twice"),
        (HEADER.replace(b"Country", b"Country,"), "column 9 has no name"),
        (b"\xff\n", "not UTF-8"),
        (lines(b"x" * 1_100_000), "line 2 is longer"),
    ],
)
def test_file_that_cannot_be_read_says_why(data: bytes, told: str) -> None:
    with pytest.raises(BadFile, match=told):
        parse(data)


def test_file_without_data_rows_is_read_as_none() -> None:
    assert len(parse(HEADER)) == 0
