"""The live screen of `demo`: stages, latency, ledger, revenue and where to look next."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

from rich.console import Group, RenderableType
from rich.panel import Panel
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from deploy.local.client import Endpoints

_STATES = {"ready": "green", "degraded": "yellow", "starting": "cyan"}


@dataclass
class View:
    """What the screen shows; `update` takes one answer of the query API and what each stage says."""

    endpoints: Endpoints
    total: int
    sent: int = 0
    rate: float = 0.0
    overview: dict[str, Any] = field(default_factory=dict)
    stages: dict[str, dict[str, Any]] = field(default_factory=dict)
    _before: tuple[float, int] | None = None

    def update(self, overview: dict[str, Any], stages: dict[str, dict[str, Any]], sent: int) -> None:
        now = time.monotonic()
        if self._before is not None and now > self._before[0]:
            self.rate = (sent - self._before[1]) / (now - self._before[0])
        self._before = (now, sent)
        self.overview, self.stages, self.sent = overview, stages, sent


def screen(view: View) -> RenderableType:
    if not view.overview:
        return Text("waiting for the first answer")
    return Panel(
        Group(_feed(view), _stages(view), _ledger(view), _links(view.endpoints)),
        title="Tillstream: Online Retail, December 2010",
        border_style="cyan",
    )


def _feed(view: View) -> RenderableType:
    kpis = view.overview["kpis"]
    line = Text.assemble(
        ("revenue ", "dim"),
        (f"{Decimal(kpis['revenue']):,.2f} GBP", "bold green"),
        ("   orders ", "dim"),
        f"{kpis['orders']:,}",
        ("   customers ", "dim"),
        f"{kpis['customers']:,}",
        ("   sent ", "dim"),
        f"{view.sent:,} of {view.total:,} at {view.rate:,.0f}/s",
    )
    return Group(line, ProgressBar(total=view.total, completed=view.sent, width=76), Text())


def _stages(view: View) -> RenderableType:
    table = Table(box=None, pad_edge=False)
    table.add_column("stage")
    table.add_column("state")
    for heading in ("events", "lag", "p50 ms", "p99 ms"):
        table.add_column(heading, justify="right", min_width=9)
    for name in view.endpoints.stages:
        stage = view.stages.get(name, {})
        state = stage.get("state", "stopped")
        table.add_row(
            name,
            Text(state, style=_STATES.get(state, "red")),
            *(_number(stage.get(figure)) for figure in ("records_in", "lag", "p50_ms", "p99_ms")),
        )
    return Group(table, Text())


def _ledger(view: View) -> RenderableType:
    ledger = view.overview["pipeline"]["ledger"]
    verdict = ("balanced", "bold green") if ledger["balanced"] else ("UNBALANCED", "bold red")
    gold = ledger["accepted"] - sum(ledger[k] for k in ("duplicates", "quarantined", "resolved", "inFlight"))
    return Text.assemble(
        ("ledger ", "dim"),
        f"accepted {ledger['accepted']:,} = gold {gold:,} + duplicates {ledger['duplicates']:,} "
        f"+ quarantined {ledger['quarantined']:,} + resolved {ledger['resolved']:,} "
        f"+ in flight {ledger['inFlight']:,}  ",
        verdict,
        "\n",
    )


def _links(endpoints: Endpoints) -> RenderableType:
    return Text.assemble(
        ("console ", "dim"),
        f"{endpoints.query}/   ",
        ("GraphQL ", "dim"),
        f"{endpoints.graphql}   ",
        ("ingest ", "dim"),
        f"{endpoints.ingest}/v1/events/sales",
    )


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:,.0f}"
