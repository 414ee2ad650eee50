"""A till: receipts in, sales posted to the platform out."""

from __future__ import annotations

import json
import urllib.request
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal


@dataclass(frozen=True, slots=True)
class Line:
    """`price` of one piece; a return has a negative `quantity`."""

    stock_code: str
    description: str
    quantity: int
    price: Decimal


@dataclass(frozen=True, slots=True)
class Receipt:
    number: int
    at: datetime
    lines: Sequence[Line]
    customer: str | None = None


@dataclass(frozen=True, slots=True)
class Till:
    """Posts to the ingest at `url` in the name of `name`."""

    url: str
    name: str
    country: str = "United Kingdom"
    currency: str = "GBP"

    def sell(self, receipt: Receipt) -> list[str]:
        """The event ids of the lines, in order. Raises OSError where the platform did not take them."""
        body = "\n".join(json.dumps(sale) for sale in self.sales(receipt)).encode()
        request = urllib.request.Request(  # noqa: S310 - the url is the till's own setting
            f"{self.url}/v1/events/sales", body, {"Content-Type": "application/x-ndjson"}
        )
        with urllib.request.urlopen(request, timeout=10) as answer:  # noqa: S310
            return [item["event_id"] for item in json.load(answer)["items"]]

    def sales(self, receipt: Receipt) -> list[dict[str, object]]:
        """One sale for each line. A receipt with a return is a cancellation: its number begins with C."""
        is_return = any(line.quantity < 0 for line in receipt.lines)
        return [
            {
                "source_system": self.name,
                "invoice_no": f"{'C' if is_return else ''}{receipt.number}",
                "line_no": place,
                "stock_code": line.stock_code,
                "description": line.description,
                "quantity": line.quantity,
                "unit_price": str(line.price),
                "currency": self.currency,
                "customer_id": receipt.customer,
                "country": self.country,
                "invoice_ts": receipt.at.isoformat(),
            }
            for place, line in enumerate(receipt.lines, 1)
        ]
