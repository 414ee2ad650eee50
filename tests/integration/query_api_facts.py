"""Facts for tests of the query service: sales lines read from CSV by plain Python, and put into Postgres.

Independent of the platform's own code, so that it can serve as an oracle.
"""

from __future__ import annotations

import csv
import hashlib
import re
import uuid
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import asyncpg

SAMPLES = Path(__file__).parents[2] / "samples" / "online-retail"

_CODES = {"United Kingdom": "GB", "France": "FR", "Australia": "AU", "Netherlands": "NL", "Germany": "DE"}


@dataclass(frozen=True, slots=True)
class Line:
    """One accepted invoice line. `gbp` None: no rate yet."""

    source: str
    invoice: str
    line: int
    stock_code: str
    description: str | None
    quantity: int
    price: Decimal
    customer: str | None
    country: str | None
    at: datetime
    gbp: Decimal | None
    currency: str = "GBP"
    recorded_at: datetime = field(default=datetime(2020, 1, 1, tzinfo=UTC))

    @property
    def event_id(self) -> str:
        return str(uuid.uuid5(uuid.NAMESPACE_URL, f"{self.source}/{self.invoice}/{self.line}"))

    @property
    def is_return(self) -> bool:
        return self.invoice.startswith("C")

    @property
    def is_product(self) -> bool:
        return re.fullmatch(r"\d{5}[A-Za-z]*", self.stock_code) is not None

    @property
    def day(self) -> int:
        return int(self.at.strftime("%Y%m%d"))


def read(paths: Iterable[Path]) -> list[Line]:
    """The valid lines of Online Retail files, in order. A line's number is its ordinal in its invoice."""
    lines: list[Line] = []
    for path in paths:
        ordinals: dict[str, int] = {}
        with path.open(newline="", encoding="utf-8") as file:
            for row in csv.DictReader(file):
                invoice, quantity = row["InvoiceNo"].strip(), int(row["Quantity"])
                ordinals[invoice] = ordinals.get(invoice, 0) + 1
                price = Decimal(row["UnitPrice"])
                if quantity == 0 or (quantity < 0 and not invoice.startswith("C")) or price < 0:
                    continue
                lines.append(
                    Line(
                        source="online-retail",
                        invoice=invoice,
                        line=ordinals[invoice],
                        stock_code=row["StockCode"].strip(),
                        description=row["Description"].strip() or None,
                        quantity=quantity,
                        price=price,
                        customer=row["CustomerID"].strip().removesuffix(".0") or None,
                        country=row["Country"].strip() or None,
                        at=datetime.fromisoformat(row["InvoiceDate"]).replace(tzinfo=UTC),
                        gbp=quantity * price,
                    )
                )
    return lines


def odd_ones(like: Line) -> list[Line]:
    """What the samples lack: another source with the same invoice number, a rate with six places, a line
    without a rate, without a country, a price of a millionth; an invoice of two customers, two countries
    and two days."""
    web = replace(like, source="web", currency="EUR", customer="web-1")
    return [
        replace(web, line=1, at=like.at.replace(hour=23), gbp=Decimal("12.345678")),
        replace(web, line=2, at=like.at.replace(hour=23), gbp=None, description=None),
        replace(web, invoice="W1", line=1, country=None, gbp=Decimal("0.000001"), quantity=1),
        replace(web, invoice="CW2", line=1, country=None, quantity=-3, gbp=Decimal("-7.5")),
        replace(web, invoice="W5", line=1, gbp=Decimal("1.1")),
        replace(web, invoice="W5", line=2, gbp=Decimal("2.2"), customer="web-2"),
        replace(web, invoice="W5", line=3, gbp=Decimal("3.3"), customer=None, country="France"),
        replace(web, invoice="W5", line=4, gbp=Decimal("4.4"), at=like.at.replace(day=2)),
        replace(web, invoice="W3", line=1, stock_code="POST", gbp=Decimal("4.5"), quantity=2),
        replace(
            web,
            invoice="W4",
            line=1,
            gbp=Decimal("100"),
            recorded_at=datetime(2021, 6, 1, 12, tzinfo=UTC),
        ),
    ]


def record(line: Line, place: int) -> dict[str, Any]:
    """The row of warehouse.fact_sales; `place` serves as its offset on every topic."""
    return {
        "event_id": line.event_id,
        "source_system": line.source,
        "invoice_no": line.invoice,
        "line_no": line.line,
        "stock_code": line.stock_code,
        "description": line.description,
        "customer_id": line.customer,
        "sale_key": _key("sale", line.event_id),
        "customer_key": _key("customer", line.customer) if line.customer else -1,
        "product_key": _key("product", line.stock_code),
        "date_key": line.day,
        "invoice_key": _key("invoice", line.source, line.invoice),
        "quantity": line.quantity,
        "unit_price": line.price,
        "currency": line.currency,
        "total_amount": line.quantity * line.price,
        "amount_gbp": line.gbp,
        "country": line.country,
        "country_code": _CODES.get(line.country or ""),
        "region": "Europe" if line.country else None,
        "is_return": line.is_return,
        "is_product": line.is_product,
        "quality_score": 1.0,
        "invoice_ts": line.at,
        "recorded_at": line.recorded_at,
        "revision": 0,
        "content_hash": "0" * 32,
        "load_id": "test",
        "ingest_ts": line.recorded_at,
        "validated_ts": line.recorded_at,
        "raw_partition": place % 3,
        "raw_offset": place,
        "validated_partition": place % 3,
        "validated_offset": place + 1,
        "enriched_partition": place % 3,
        "enriched_offset": place + 2,
    }


async def insert(connection: asyncpg.Connection, lines: Sequence[Line]) -> None:
    """In one transaction, partitions included."""
    rows = [record(line, place) for place, line in enumerate(lines)]
    async with connection.transaction():
        for month in {row["date_key"] // 100 for row in rows}:
            await connection.execute("SELECT warehouse.ensure_fact_partition($1)", month * 100 + 1)
        await connection.copy_records_to_table(
            "fact_sales",
            schema_name="warehouse",
            columns=list(rows[0]),
            records=[tuple(row.values()) for row in rows],
        )


def _key(*parts: str) -> int:
    digest = hashlib.sha256("\x1f".join(parts).encode()).digest()
    return int.from_bytes(digest[:8], "big", signed=True)
