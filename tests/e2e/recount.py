"""What the platform must say of a folder of Online Retail files, counted in plain Python.

Written from the public interface alone (no code of the platform), with exact decimals.
"""

from __future__ import annotations

import csv
import uuid
from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path

NAMESPACE = uuid.UUID("5b0f6f3e-3f0a-5d0c-9d38-0d1f0f6f7c11")
SOURCE = "online-retail"


@dataclass(frozen=True)
class Line:
    event_id: str
    invoice_no: str
    line_no: int
    stock_code: str
    description: str | None
    quantity: int
    unit_price: Decimal
    customer_id: str | None
    country: str
    invoice_ts: datetime

    @property
    def amount(self) -> Decimal:
        return self.quantity * self.unit_price

    @property
    def is_return(self) -> bool:
        return self.invoice_no.startswith("C")

    @property
    def is_refused(self) -> bool:
        """The rules that this data set meets: NEGATIVE_QUANTITY, ZERO_QUANTITY, NEGATIVE_PRICE."""
        return self.quantity == 0 or (self.quantity < 0 and not self.is_return) or self.unit_price < 0


def read(paths: Iterable[Path], source: str = SOURCE) -> list[Line]:
    lines = []
    for path in paths:
        ordinals: Counter[str] = Counter()
        with path.open(encoding="utf-8", newline="") as file:
            for row in csv.DictReader(file):
                invoice = row["InvoiceNo"].strip()
                ordinals[invoice] += 1
                name = f"{source}\x1f{invoice}\x1f{ordinals[invoice]}"
                lines.append(
                    Line(
                        event_id=str(uuid.uuid5(NAMESPACE, name)),
                        invoice_no=invoice,
                        line_no=ordinals[invoice],
                        stock_code=row["StockCode"].strip(),
                        description=row["Description"].strip() or None,
                        quantity=int(row["Quantity"]),
                        unit_price=Decimal(row["UnitPrice"]),
                        customer_id=row["CustomerID"].strip().removesuffix(".0") or None,
                        country=row["Country"].strip(),
                        invoice_ts=datetime.fromisoformat(row["InvoiceDate"]).replace(tzinfo=UTC),
                    )
                )
    return lines


@dataclass(frozen=True)
class Figures:
    """The KPIs of INTERFACES over the lines that are in gold."""

    revenue: Decimal
    gross_revenue: Decimal
    returns: Decimal
    orders: int
    lines: int
    units: int
    customers: int
    by_country: dict[str, Decimal]
    by_day: dict[str, Decimal]
    by_product: dict[str, Decimal]


def figures(lines: Iterable[Line]) -> Figures:
    gold = [line for line in lines if not line.is_refused]
    sold = [line for line in gold if not line.is_return]
    by_country: defaultdict[str, Decimal] = defaultdict(Decimal)
    by_day: defaultdict[str, Decimal] = defaultdict(Decimal)
    by_product: defaultdict[str, Decimal] = defaultdict(Decimal)
    for line in gold:
        by_country[line.country] += line.amount
        by_day[line.invoice_ts.date().isoformat()] += line.amount
        by_product[line.stock_code] += line.amount
    return Figures(
        revenue=sum((line.amount for line in gold), Decimal()),
        gross_revenue=sum((line.amount for line in sold), Decimal()),
        returns=sum((line.amount for line in gold if line.is_return), Decimal()),
        orders=len({line.invoice_no for line in sold}),
        lines=len(gold),
        units=sum(line.quantity for line in gold),
        customers=len({line.customer_id for line in gold if line.customer_id}),
        by_country=dict(by_country),
        by_day=dict(by_day),
        by_product=dict(by_product),
    )
