"""The demo: the sample's lines as live events at a chosen rate, and the screen that shows them arrive."""

from __future__ import annotations

import csv
import json
import threading
import time
import uuid
from collections import Counter
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.live import Live

from deploy.local.client import PlatformClient
from deploy.local.demo_screen import View, screen
from deploy.local.errors import CommandError
from deploy.local.layout import CHECKOUT
from deploy.local.stack import Stack
from deploy.local.verbs import connect, print_json
from deploy.local.verbs_ask import print_ledger
from deploy.local.verbs_load import csv_files, settled

SAMPLE = CHECKOUT / "samples" / "online-retail"
SOURCE = "online-retail"
_TICK_S = 0.1
_OVERVIEW = """
{ kpis { revenue orders lines customers }
  pipeline { ledger { accepted duplicates quarantined resolved inFlight balanced } } }
"""


def show(stack: Stack, rate: int, *, stay: bool, as_json: bool) -> int:
    """Stream the sample and show what becomes of it; the exit code of `demo`."""
    client = connect(stack)
    load_id = str(uuid.uuid4())
    feed = Feed(client, csv_files([SAMPLE]), rate, load_id)
    console = Console(stderr=True)
    try:
        _watch(client, feed, console, stay=stay)
    except KeyboardInterrupt:
        return 0
    finally:
        feed.stop()
    console.print()
    settled(client, load_id, feed.sent, timeout_s=300.0)
    return _summary(client, load_id, as_json=as_json)


def _summary(client: PlatformClient, load_id: str, *, as_json: bool) -> int:
    ledger = client.ledger()
    latency = client.latency(load_id)
    revenue = client.graphql("{ kpis { revenue } }")["kpis"]["revenue"]
    if as_json:
        print_json({"ledger": ledger, "latency_ms": latency, "revenue": revenue})
    else:
        print_ledger(ledger)
        for store in ("live", "warehouse", "lake"):
            if figures := latency[store]:
                print(f"{store:<12} p50 {figures['p50'] / 1000:.2f} s, p99 {figures['p99'] / 1000:.2f} s")
        print(f"revenue      {Decimal(revenue):>15,} GBP")
    return 0 if ledger["balanced"] and ledger["in_flight"] == 0 else 1


class Feed:
    """Posts the sample's lines at a chosen rate, on a thread of its own."""

    def __init__(self, client: PlatformClient, files: list[Path], rate: int, load_id: str) -> None:
        self.sent = 0
        self.total = 0
        self.failure: BaseException | None = None
        self._client = client
        self._rate = rate
        self._load_id = load_id
        self._lines = [line for path in files for line in sale_lines(path)]
        self.total = len(self._lines)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="feed", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._stop.set()
        self._thread.join(timeout=5)

    @property
    def done(self) -> bool:
        return self.sent >= self.total

    def _run(self) -> None:
        began = time.monotonic()
        try:
            while not self.done and not self._stop.is_set():
                due = min(self.total, int((time.monotonic() - began) * self._rate) + 1)
                if due > self.sent:
                    body = b"".join(self._lines[self.sent : due])
                    self._client.post_sales(body, load_id=self._load_id, source=SOURCE)
                    self.sent = due
                self._stop.wait(_TICK_S)
        except BaseException as error:
            self.failure = error


def sale_lines(path: Path) -> Iterator[bytes]:
    """A CSV file of the sample as NDJSON lines; a line's number is its ordinal within its invoice."""
    numbers: Counter[str] = Counter()
    with path.open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            numbers[row["InvoiceNo"]] += 1
            yield (
                json.dumps(
                    {
                        "source_system": SOURCE,
                        "invoice_no": row["InvoiceNo"],
                        "line_no": numbers[row["InvoiceNo"]],
                        "stock_code": row["StockCode"],
                        "description": row["Description"] or None,
                        "quantity": int(row["Quantity"]),
                        "unit_price": row["UnitPrice"],
                        "currency": "GBP",
                        "customer_id": row["CustomerID"] or None,
                        "country": row["Country"],
                        "invoice_ts": row["InvoiceDate"].replace(" ", "T") + "Z",
                    }
                ).encode()
                + b"\n"
            )


def _watch(client: PlatformClient, feed: Feed, console: Console, *, stay: bool) -> None:
    """Show the screen once a second until all was sent and nothing is in flight, or for ever."""
    feed.start()
    view = View(client.endpoints, feed.total)
    with Live(screen(view), console=console, auto_refresh=False, transient=False) as live:
        while True:
            if feed.failure is not None:
                raise CommandError(f"the demo could not post its events: {feed.failure}")
            overview: dict[str, Any] = client.graphql(_OVERVIEW)
            view.update(overview, client.stages(), feed.sent)
            live.update(screen(view), refresh=True)
            drained = feed.done and overview["pipeline"]["ledger"]["inFlight"] == 0
            if drained and not stay and overview["pipeline"]["ledger"]["accepted"] >= feed.sent:
                return
            time.sleep(1.0)
