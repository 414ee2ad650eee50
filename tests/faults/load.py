"""A steady load through two doors: HTTP and a producer of its own that writes Avro to the raw topic.

Among good sales there are some that quality must refuse, some that nobody can read, and some that are sent
twice. What a door did not acknowledge is sent again until it does, as a careful client would.
"""

from __future__ import annotations

import io
import json
import struct
import threading
import time
import uuid
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any, Protocol

import confluent_kafka as ck
import fastavro
import httpx

from deploy.local.layout import CHECKOUT

RAW = "sales.raw.v1"
_SCHEMA = fastavro.parse_schema(json.loads((CHECKOUT / "schemas" / "avro" / f"{RAW}.avsc").read_text()))
ANY = -1
"""Any partition."""
_EVERY_S = 0.2
_PART = 10
_ACKNOWLEDGED_S = 120.0


@dataclass
class Sent:
    """What was acknowledged, by what must become of it. `sources` name all of it but the broken bytes."""

    sources: tuple[str, ...]
    gold: set[str] = field(default_factory=set)
    refused: set[str] = field(default_factory=set)
    broken: set[bytes] = field(default_factory=set)

    def __len__(self) -> int:
        return len(self.gold) + len(self.refused) + len(self.broken)


@dataclass(frozen=True)
class Item:
    """One thing to send: a sale that is good, one with quantity 0, or bytes that are none."""

    number: int

    @property
    def is_refused(self) -> bool:
        return self.number % 20 == 7

    @property
    def is_broken(self) -> bool:
        return self.number % 25 == 13

    @property
    def is_sent_twice(self) -> bool:
        return self.number % 10 == 3

    def sale(self, source: str) -> dict[str, Any]:
        return {
            "source_system": source,
            "invoice_no": f"{self.number // 4}",
            "line_no": self.number % 4 + 1,
            "stock_code": f"{20000 + self.number % 700}",
            "quantity": 0 if self.is_refused else self.number % 9 + 1,
            "currency": "GBP",
            "invoice_ts": "2011-03-04T10:00:00Z",
        }


def framed(sale: dict[str, Any], schema_id: int, schema: Any = _SCHEMA) -> bytes:
    """A raw sale as an outside producer writes it: Confluent's frame around Avro."""
    buffer = io.BytesIO()
    record = {
        "event_id": "",
        "unit_price_micros": 2_550_000,
        "description": None,
        "customer_id": None,
        "country": "United Kingdom",
        "attributes": {},
        **sale,
        "invoice_ts": 1_299_232_800_000,
    }
    fastavro.schemaless_writer(buffer, schema, record)
    return struct.pack(">bI", 0, schema_id) + buffer.getvalue()


class Door(Protocol):
    source: str

    def send(self, items: list[Item], sent: Sent, give_up: Callable[[], bool]) -> None:
        """Send until acknowledged, then note it in `sent`. Raises where `give_up` says so first."""

    def close(self) -> None: ...


class HttpDoor:
    """NDJSON to `POST /v1/events/sales`; the ids are those of its answer."""

    def __init__(self, url: str, source: str) -> None:
        self.source = source
        self._url = f"{url}/v1/events/sales"
        self._client = httpx.Client(timeout=30.0)
        self.refusals = 0

    def send(self, items: list[Item], sent: Sent, give_up: Callable[[], bool]) -> None:
        lines = [self._line(item) for item in items]
        answers = self._answers(b"\n".join(lines), give_up)
        for item, line, answer in zip(items, lines, answers, strict=True):
            if item.is_broken:
                assert answer["outcome"] == "quarantined", answer
                sent.broken.add(line)
            else:
                assert answer["outcome"] == "accepted", answer
                (sent.refused if item.is_refused else sent.gold).add(answer["event_id"])

    def close(self) -> None:
        self._client.close()

    def _line(self, item: Item) -> bytes:
        if item.is_broken:
            return f'{{"source_system": "{self.source}", "invoice_no": "{item.number}'.encode()
        return json.dumps(item.sale(self.source) | {"unit_price": "2.55", "country": "EIRE"}).encode()

    def _answers(self, body: bytes, give_up: Callable[[], bool]) -> list[dict[str, Any]]:
        while not give_up():
            try:
                answer = self._client.post(
                    self._url,
                    content=body,
                    params={"source": self.source},
                    headers={"Content-Type": "application/x-ndjson", "Authorization": "Bearer any"},
                )
            except httpx.TransportError:
                self.refusals += 1
                time.sleep(0.2)
                continue
            if answer.status_code == 202:
                found: list[dict[str, Any]] = answer.json()["items"]
                return found
            assert answer.status_code in (429, 500, 503), answer.text
            self.refusals += 1
            time.sleep(0.2)
        raise AssertionError("ingest did not acknowledge in time")


class AvroDoor:
    """A plain idempotent producer. It gives each sale its id, and half of them no key, so that they lie on
    any partition and quality has to pass them on."""

    def __init__(self, bootstrap: str, source: str, schema_id: int) -> None:
        self.source = source
        self.schema_id = schema_id
        self._client = ck.Producer(
            {
                "bootstrap.servers": bootstrap,
                "enable.idempotence": True,
                "linger.ms": 5,
                "message.max.bytes": 4 << 20,
                "reconnect.backoff.max.ms": 1_000,
                "log_level": 0,
            }
        )

    def send(self, items: list[Item], sent: Sent, give_up: Callable[[], bool]) -> None:
        for item in items:
            event_id = str(uuid.uuid5(uuid.NAMESPACE_OID, f"{self.source}-{item.number}"))
            if item.is_broken:
                value = f"no Avro: {event_id}".encode()
            else:
                value = framed(item.sale(self.source) | {"event_id": event_id}, self.schema_id)
            # What cannot be read is known by its bytes within one partition: a repeat needs the same key.
            keyless = item.number % 2 and not item.is_broken
            self._produce(value, None if keyless else event_id.encode(), give_up)
            if item.is_broken:
                sent.broken.add(value)
            else:
                (sent.refused if item.is_refused else sent.gold).add(event_id)

    def sales(self, name: str, count: int) -> dict[str, bytes]:
        """Event id to record, of good sales beside those that the load sends."""
        ids = [str(uuid.uuid5(uuid.NAMESPACE_OID, f"{self.source}-{name}-{i}")) for i in range(count)]
        return {
            event_id: framed(
                Item(20 * i).sale(self.source) | {"event_id": event_id, "invoice_no": f"{name}-{i // 5}"},
                self.schema_id,
            )
            for i, event_id in enumerate(ids)
        }

    def send_all(
        self, values: Iterable[bytes | None], within_s: float = 60.0, partition: int = ANY
    ) -> list[tuple[int, int]]:
        """Many records, acknowledged when this returns: their partitions and offsets."""
        deadline = time.monotonic() + within_s
        placed: list[tuple[int, int]] = []
        failed: list[Any] = []

        def report(error: Any, message: Any) -> None:
            failed.append(error) if error else placed.append((message.partition(), message.offset()))

        for value in values:
            while True:
                try:
                    self._client.produce(RAW, value, partition=partition, on_delivery=report)
                    break
                except BufferError:
                    self._client.poll(0.05)
            self._client.poll(0)
        assert self._client.flush(max(deadline - time.monotonic(), 1)) == 0, "not all was acknowledged"
        assert not failed, failed[:3]
        return placed

    def close(self) -> None:
        self._client.flush(10)

    def _produce(self, value: bytes, key: bytes | None, give_up: Callable[[], bool]) -> None:
        while not self._once(value, key, give_up):
            assert not give_up(), "Kafka did not acknowledge in time"

    def _once(self, value: bytes, key: bytes | None, give_up: Callable[[], bool]) -> bool:
        outcome: list[Any] = []
        self._client.produce(RAW, value, key, on_delivery=lambda error, _: outcome.append(error))
        while not outcome and not give_up():
            self._client.poll(0.05)
        return outcome == [None]


class Load:
    """Both doors, each on a thread of its own, until stopped."""

    def __init__(self, doors: list[Door], avro: AvroDoor) -> None:
        """`avro`: one more door, for what a test sends itself; its source is one of the load's."""
        self.avro = avro
        self.sent = Sent(tuple(door.source for door in doors))
        self.failure: BaseException | None = None
        self._doors = doors
        self._stop = threading.Event()
        self._until = float("inf")
        self._latest: tuple[str, float] | None = None
        self._threads = [threading.Thread(target=self._run, args=(door,), daemon=True) for door in doors]

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """Returns when all that was begun is acknowledged. Raises where it is not in time."""
        self._until = time.monotonic() + _ACKNOWLEDGED_S
        self._stop.set()
        for thread in self._threads:
            thread.join()
        if self.failure is not None:
            raise self.failure

    def burst(self, name: str, count: int) -> set[str]:
        """So many good sales more, at once; the ids of them. They count as sent."""
        sales = self.avro.sales(name, count)
        self.avro.send_all(sales.values())
        self.sent.gold |= sales.keys()
        return set(sales)

    def latest(self) -> tuple[str, float] | None:
        """A good event that was just acknowledged over HTTP, and when (monotonic seconds)."""
        if self.failure is not None:
            raise self.failure
        return self._latest

    def _run(self, door: Door) -> None:
        number = 0
        again: list[Item] = []
        own = Sent((door.source,))
        try:
            while not self._stop.is_set():
                began = time.monotonic()
                items = [Item(number + i) for i in range(_PART)]
                number += _PART
                door.send([*items, *again], own, lambda: time.monotonic() > self._until)
                again = [item for item in items if item.is_sent_twice]
                self._note(own, isinstance(door, HttpDoor))
                self._stop.wait(max(_EVERY_S - (time.monotonic() - began), 0))
        except BaseException as error:
            self.failure = error
        finally:
            door.close()

    def _note(self, own: Sent, watch: bool) -> None:
        fresh = own.gold - self.sent.gold
        self.sent.gold |= own.gold
        self.sent.refused |= own.refused
        self.sent.broken |= own.broken
        if watch and fresh:
            self._latest = (next(iter(fresh)), time.monotonic())
