"""The load of e2e_latency: sales over HTTP at a steady rate, in an open loop, from a process of its own.

Each tick has its own time, fixed before anything is sent, and its request leaves then, whether the ones
before have been answered or not: a platform that stops for a second is charged for all that waited (no
coordinated omission).

    python -m bench.chain.load PLAN.json

writes PLAN.done.json: for each tick [intended ms, answered ms or null, HTTP status].
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from bench.chain.http_client import Client
from bench.transform.dataset import real_lines

SOURCE: Final = "bench"
LINES_OF_AN_INVOICE: Final = 20
_OK: Final = 202
_ANSWER_S: Final = 60.0


@dataclass(frozen=True, slots=True)
class Plan:
    """`rate` events a second for `seconds`, a request every `tick_ms`, the first at `begin_ms` since 1970."""

    ingest: str
    rate: int
    seconds: int
    tick_ms: int
    begin_ms: float

    @property
    def ticks(self) -> int:
        return self.seconds * 1000 // self.tick_ms

    @property
    def per_tick(self) -> int:
        return self.rate * self.tick_ms // 1000

    def intended_ms(self, tick: int) -> float:
        return self.begin_ms + tick * self.tick_ms

    def invoice(self, event: int) -> str:
        return f"B{event // LINES_OF_AN_INVOICE:09d}"

    def first_invoices(self) -> dict[int, str]:
        """Whole second -> the invoice that begins in it, for the sampler."""
        return {
            int((self.begin_ms + second * 1000) / 1000): self.invoice(
                second * self.rate + LINES_OF_AN_INVOICE
            )
            for second in range(self.seconds)
        }

    def write(self, path: Path) -> None:
        path.write_text(json.dumps(asdict(self)))


class Lines:
    """Real lines under invoice numbers of the benchmark, as NDJSON."""

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        # Lines that no rule rejects, so that every event goes all the way.
        base = real_lines().filter((real_lines()["quantity"] > 0) & (real_lines()["unit_price_micros"] >= 0))
        self._base: list[dict[str, Any]] = [
            {
                "source_system": SOURCE,
                "stock_code": row["stock_code"],
                "description": row["description"],
                "quantity": row["quantity"],
                "unit_price": f"{row['unit_price_micros'] / 1e6:.6f}",
                "currency": "GBP",
                "customer_id": row["customer_id"],
                "country": row["country"],
            }
            for row in base.iter_rows(named=True)
        ]

    def body(self, tick: int) -> bytes:
        plan = self._plan
        sold = datetime.fromtimestamp(plan.intended_ms(tick) / 1000, UTC).isoformat(timespec="milliseconds")
        first = tick * plan.per_tick
        lines = [
            {
                **self._base[event % len(self._base)],
                "invoice_no": plan.invoice(event),
                "line_no": event % LINES_OF_AN_INVOICE + 1,
                "invoice_ts": sold,
            }
            for event in range(first, first + plan.per_tick)
        ]
        return b"".join(json.dumps(line).encode() + b"\n" for line in lines)


async def send(plan: Plan) -> list[list[Any]]:
    """All ticks, each at its time; what became of each."""
    lines, results = Lines(plan), list[list[Any]]()
    if time.time() * 1000 > plan.begin_ms:
        raise SystemExit("bench: the machine is too busy: the load was not ready when it had to begin")
    headers = {"Content-Type": "application/x-ndjson", "Authorization": "Bearer loopback"}
    client = Client(f"{plan.ingest}/v1/events/sales?items=false", headers)

    async def post(tick: int, body: bytes) -> None:
        try:
            status = await asyncio.wait_for(client.post(body), _ANSWER_S)
        except (OSError, EOFError, TimeoutError):
            status = 0
        answered = time.time_ns() / 1e6 if status == _OK else None
        results.append([plan.intended_ms(tick), answered, status])

    async with asyncio.TaskGroup() as tasks:
        for tick in range(plan.ticks):
            body = lines.body(tick)
            await asyncio.sleep(max(plan.intended_ms(tick) / 1000 - time.time(), 0.0))
            tasks.create_task(post(tick, body))
    client.close()
    return sorted(results, key=lambda result: result[0])


def main(path: Path) -> None:
    plan = Plan(**json.loads(path.read_text()))
    path.with_suffix(".done.json").write_text(json.dumps(asyncio.run(send(plan))))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
