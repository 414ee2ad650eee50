"""A plain-Python oracle of ingest and quality: where each event must be, and why.

Written from the contract's descriptions and the decision table, one event at a time; it shares no code with
the services.
"""

from __future__ import annotations

import json
import random
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Final

NOW: Final = datetime(2026, 11, 22, 12, tzinfo=UTC)
MOST: Final = 10**18
CURRENCIES: Final = {"GBP", "EUR", "USD"}
COUNTRIES: Final = {"United Kingdom", "EIRE", "France"}
WEIGHTS: Final = {
    "NO_CUSTOMER": 0.2,
    "NO_DESCRIPTION": 0.1,
    "ZERO_PRICE": 0.2,
    "NOT_A_PRODUCT": 0.1,
    "UNKNOWN_COUNTRY": 0.1,
}

Sale = dict[str, Any]

FAULTS: Final[dict[str, Callable[[Sale], object]]] = {
    "EMPTY_KEY": lambda s: s.update(stock_code="  "),
    "EMPTY_INVOICE": lambda s: s.update(invoice_no=""),
    "ZERO_QUANTITY": lambda s: s.update(quantity=0),
    "NEGATIVE_QUANTITY": lambda s: s.update(quantity=-2),
    "NEGATIVE_PRICE": lambda s: s.update(unit_price_micros=-1_000_000),
    "BAD_CURRENCY": lambda s: s.update(currency="XXZ"),
    "TOO_OLD": lambda s: s.update(invoice_ts="1999-12-31T23:59:59Z"),
    "TOO_NEW": lambda s: s.update(invoice_ts=(NOW + timedelta(days=1, seconds=1)).isoformat()),
    "AMOUNT_RANGE": lambda s: s.update(unit_price_micros=MOST),
    "KEY_RANGE": lambda s: s.update(country="x" * 201),
    "NO_CUSTOMER": lambda s: s.pop("customer_id", None),
    "NO_DESCRIPTION": lambda s: s.update(description="   "),
    "ZERO_PRICE": lambda s: s.update(unit_price_micros=0),
    "NOT_A_PRODUCT": lambda s: s.update(stock_code="POST"),
    "UNKNOWN_COUNTRY": lambda s: s.update(country="Atlantis"),
    "CANCELLATION": lambda s: s.update(invoice_no="C" + s["invoice_no"]),
    "SPACES": lambda s: s.update(country=f" {s['country']} ", customer_id="17850.0", currency="gbp "),
    # What ingest cannot read.
    "BAD_NUMBER": lambda s: s.update(quantity="six"),
    "NO_PRICE": lambda s: s.pop("unit_price_micros"),
    "NO_TIME": lambda s: s.update(invoice_ts="yesterday"),
    "HUGE": lambda s: s.update(quantity=2**31),
}


@dataclass
class Expected:
    """Event id -> (warnings, score) in gold; (event id, reason, rules) refused by quality; bytes by
    ingest."""

    good: dict[str, tuple[tuple[str, ...], float]] = field(default_factory=dict)
    refused: Counter[tuple[str, str, tuple[str, ...]]] = field(default_factory=Counter)
    unreadable: Counter[bytes] = field(default_factory=Counter)


class Oracle:
    """Judges events in the order in which they are posted."""

    def __init__(self) -> None:
        self.expected = Expected()
        self._accepted: dict[str, Sale] = {}
        self._rejected: dict[str, Sale] = {}
        self._conflicts: set[tuple[str, str]] = set()

    def post(self, body: bytes) -> None:
        received = json.loads(body)
        if not readable(received):
            self.expected.unreadable[body] += 1
            return
        sale = normalised(received)
        event, content = sale.pop("event_id"), json.dumps(sale, sort_keys=True)
        rules = rejecting(sale)
        known = self._accepted.get(event)
        if known is not None:
            if known != sale and (event, content) not in self._conflicts:
                self._conflicts.add((event, content))
                self._refuse(event, ["ID_CONFLICT", *rules])
        elif not rules:
            self._accepted[event] = sale
            warnings = warning(sale)
            score = round(1 - sum(WEIGHTS[each] for each in warnings), 6)
            self.expected.good[event] = (tuple(warnings), score)
        elif self._rejected.get(event) != sale:
            self._rejected[event] = sale
            self._refuse(event, rules)

    def _refuse(self, event: str, rules: list[str]) -> None:
        self.expected.refused[event, rules[0], tuple(rules)] += 1


def readable(sale: Sale) -> bool:
    """Whether ingest can read it at all."""
    quantity, has_time = sale["quantity"], sale["invoice_ts"] != "yesterday"
    return isinstance(quantity, int) and abs(quantity) < 2**31 and "unit_price_micros" in sale and has_time


def normalised(sale: Sale) -> Sale:
    """What an event says after trimming: two that differ only in spaces say the same."""
    plain = {name: value.strip() if isinstance(value, str) else value for name, value in sale.items()}
    for name in ("description", "customer_id", "country"):
        plain[name] = plain.get(name) or None
    if plain["customer_id"]:
        plain["customer_id"] = plain["customer_id"].removesuffix(".0")
    plain["currency"] = plain["currency"].upper()
    return plain


def rejecting(sale: Sale) -> list[str]:
    """The rules that refuse it, in the contract's order."""
    at = datetime.fromisoformat(sale["invoice_ts"].replace("Z", "+00:00"))
    price, amount = sale["unit_price_micros"], sale["quantity"] * sale["unit_price_micros"]
    verdicts = {
        "EMPTY_KEY": sale["invoice_no"] == "" or sale["stock_code"] == "",
        "ZERO_QUANTITY": sale["quantity"] == 0,
        "NEGATIVE_QUANTITY": sale["quantity"] < 0 and not sale["invoice_no"].startswith("C"),
        "NEGATIVE_PRICE": price < 0,
        "BAD_CURRENCY": sale["currency"] not in CURRENCIES,
        "TIMESTAMP_RANGE": at < datetime(2000, 1, 1, tzinfo=UTC) or at > NOW + timedelta(days=1),
        "AMOUNT_RANGE": price >= MOST or abs(amount) >= MOST,
        "KEY_RANGE": any(len(sale[name] or "") > 200 for name in ("country", "customer_id", "invoice_no")),
    }
    return [rule for rule, applies in verdicts.items() if applies]


def warning(sale: Sale) -> list[str]:
    code = sale["stock_code"]
    verdicts = {
        "NO_CUSTOMER": sale["customer_id"] is None,
        "NO_DESCRIPTION": sale["description"] is None,
        "ZERO_PRICE": sale["unit_price_micros"] == 0,
        "NOT_A_PRODUCT": not (
            len(code) >= 5 and code[:5].isdigit() and (code[5:].isalpha() or code[5:] == "")
        ),
        "UNKNOWN_COUNTRY": sale["country"] not in COUNTRIES,
    }
    return [rule for rule, applies in verdicts.items() if applies]


def event(number: int, faults: Sequence[str], quantity: int, country: str) -> bytes:
    """The body of one event with these faults, in this order."""
    sale: Sale = {
        "event_id": f"event-{number}",
        "source_system": "till-7",
        "invoice_no": f"5{number:06}",
        "line_no": 1,
        "stock_code": "85123A",
        "description": "HEART",
        "quantity": quantity,
        "unit_price_micros": 2_550_000,
        "currency": "GBP",
        "customer_id": "17850",
        "country": country,
        "invoice_ts": "2010-12-01T08:26:00Z",
    }
    for fault in faults:
        FAULTS[fault](sale)
    return json.dumps(sale).encode()


def mixture(seed: int, count: int) -> list[bytes]:
    """Events at random: most are clean, the others have up to four faults; ids repeat."""
    chance = random.Random(seed)
    found = []
    for _ in range(count):
        faults = chance.sample(sorted(FAULTS), chance.choice([0, 0, 0, 1, 1, 2, 3, 4]))
        number = chance.randrange(max(1, count // 2))
        found.append(event(number, faults, chance.choice([1, 1, 2]), chance.choice(sorted(COUNTRIES))))
    return found
