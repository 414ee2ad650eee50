"""What simulated producers may send: a small fixed set of records, each known by construction.

Ids and verdicts are written down here and not computed by the code under test; only the bytes are encoded by
the real codec. Few event ids and many variants of each make duplicates, conflicts and corrections frequent.
"""

from __future__ import annotations

import hashlib
import uuid
from dataclasses import dataclass, field
from datetime import datetime
from functools import cache
from typing import Any

import polars as pl

from schemas.catalogue import load_topics
from schemas.codec import Codec
from schemas.fakes import InMemoryRegistry

RAW, VALIDATED, ENRICHED = "sales.raw.v1", "sales.validated.v1", "sales.enriched.v1"
QUARANTINE, DECISIONS = "sales.quarantine.v1", "sales.decisions.v1"
AGGREGATES = "sales.aggregates.v1"
TOPICS = (RAW, VALIDATED, QUARANTINE, DECISIONS, ENRICHED, AGGREGATES)
SOURCE = "till-7"
EVENTS = 8
UNKNOWN_SCHEMA = 4_000
PLAIN: dict[str, Any] = {
    "source_system": SOURCE,
    "stock_code": "85123A",
    "description": "HEART",
    "currency": "GBP",
    "customer_id": "17850",
    "country": "EIRE",
    "invoice_ts": datetime(2010, 12, 1, 8, 26),
    "attributes": {},
}
_NAMESPACE = uuid.UUID("5b0f6f3e-3f0a-5d0c-9d38-0d1f0f6f7c11")


@dataclass(frozen=True)
class Item:
    """One possible raw record. Two items of one event with the same `content` say the same sale; `reason` is
    the rule that refuses it, None for a valid one. `partition_key` is None where the bytes cannot be read,
    so that the record is decided wherever it lies."""

    name: str
    value: bytes | None
    event_id: str
    content: str
    reason: str | None
    partition_key: bytes | None
    amount_micros: int | None
    sale: dict[str, Any] = field(default_factory=dict, hash=False)
    """What a readable one says, beside the amount as `total_amount_micros`."""


def uuid5(*parts: str) -> str:
    return str(uuid.uuid5(_NAMESPACE, "\x1f".join(parts)))


def murmur2(key: bytes, partitions: int) -> int:
    """Kafka's default partitioner, written from its definition."""
    mask = 0xFFFFFFFF
    h = 0x9747B28C ^ len(key)
    for at in range(0, len(key) // 4 * 4, 4):
        k = int.from_bytes(key[at : at + 4], "little") * 0x5BD1E995 & mask
        k = (k ^ k >> 24) * 0x5BD1E995 & mask
        h = h * 0x5BD1E995 & mask ^ k
    rest = key[len(key) // 4 * 4 :]
    if rest:
        h = (h ^ int.from_bytes(rest, "little")) * 0x5BD1E995 & mask
    h = (h ^ h >> 13) * 0x5BD1E995 & mask
    return ((h ^ h >> 15) & 0x7FFFFFFF) % partitions


class Schemas:
    """The registry's content and a codec per topic; `old` is an earlier schema of the raw topic."""

    def __init__(self) -> None:
        self.registry = InMemoryRegistry()
        self.topics = load_topics()
        self.ids = {
            t: self.registry.register(self.topics[t].subject, self.topics[t].schema_text) for t in TOPICS
        }
        self.codecs = {t: Codec(self.topics[t].schema_text, self.registry) for t in TOPICS}
        # The same fields under another id: what matters is that it must be fetched.
        text = self.topics[RAW].schema_text.replace("One invoice line as a source sent it.", "An older text.")
        self.old = self.registry.register(self.topics[RAW].subject, text)
        assert self.old != self.ids[RAW]


@cache
def schemas() -> Schemas:
    return Schemas()


@cache
def items() -> tuple[Item, ...]:
    """Every possible record, in a fixed order."""
    return tuple(item for n in range(EVENTS) for item in _of_event(n)) + _undecodable()


def invalid(item: Item) -> bool:
    return item.reason is not None


def _of_event(n: int) -> list[Item]:
    invoice, line = f"C{1000 + n // 3}" if n % 4 == 3 else str(1000 + n // 3), n + 1
    own = uuid5(SOURCE, invoice, str(line))
    cheap = {"invoice_no": invoice, "line_no": line, "quantity": n + 1, "unit_price_micros": 2_550_000}
    amount = (n + 1) * 2_550_000

    def item(name: str, content: str, reason: str | None, amount: int | None, **row: Any) -> Item:
        event_id = row.pop("event_id", own)
        old = row.pop("old", False)
        fields = {**PLAIN, **cheap, "event_id": event_id, **row}
        sale = {**fields, "total_amount_micros": amount}
        value = _encode(fields, old=old)
        return Item(f"e{n}-{name}", value, own, content, reason, own.encode(), amount, sale)

    return [
        item("a", "a", None, amount),
        item("a-padded", "a", None, amount, description="  HEART ", currency="gbp", customer_id="17850.0"),
        item("a-no-id", "a", None, amount, event_id=""),
        item("a-old-schema", "a", None, amount, old=True),
        item("b", "b", None, amount * 2, unit_price_micros=5_100_000, invoice_ts=datetime(2010, 12, 2, 9)),
        item("c", "c", None, amount, stock_code="22423", country="France"),
        item("zero", "zero", "ZERO_QUANTITY", 0, quantity=0),
        item("price", "price", "NEGATIVE_PRICE", -amount, unit_price_micros=-2_550_000, stock_code=" X "),
        item("no-stock", "no-stock", "EMPTY_KEY", amount, stock_code="  "),
    ]


def _encode(fields: dict[str, Any], *, old: bool) -> bytes:
    kit = schemas()
    codec = kit.codecs[RAW]
    frame = pl.DataFrame([fields], schema=codec.columns)
    return codec.encode(frame, kit.old if old else kit.ids[RAW])[0]


def _undecodable() -> tuple[Item, ...]:
    sale = {"event_id": "", "invoice_no": "1", "line_no": 1, "quantity": 1, "unit_price_micros": 1}
    whole = _encode({**PLAIN, **sale}, old=False)
    values = {
        "garbage": b"no avro at all",
        "truncated": whole[:-3],
        "unknown-schema": b"\x00" + UNKNOWN_SCHEMA.to_bytes(4, "big") + whole[5:],
        "nothing": None,
        "empty": b"",
    }
    found = []
    for name, value in values.items():
        digest = hashlib.sha256(value or b"").hexdigest()
        found.append(Item(name, value, uuid5("undecodable", digest), digest, "UNDECODABLE", None, None))
    return tuple(found)
