"""Heartbeats reach every stage of the running platform and change nothing that anybody counts."""

from __future__ import annotations

from typing import Any

from deploy.local.ports import Ports
from tests.e2e.conftest import Probe
from tests.e2e.test_live_totals import checked

STAGES = ("ingest", "quality", "enrich", "warehouse", "aggregates", "lake", "query")
KPIS = "revenue grossRevenue returns orders lines units customers averageOrderValue"
SALE = (
    b'{"source_system": "till-heartbeat", "invoice_no": "1", "line_no": 1, "stock_code": "85123A",'
    b' "quantity": 2, "unit_price": "2.55", "currency": "GBP", "country": "EIRE",'
    b' "invoice_ts": "2010-12-01T08:26:00Z"}'
)


def heartbeats(probe: Probe, stage: str) -> int:
    """How many a stage has measured."""
    base = int(probe.platform.env["TILLSTREAM_PORT_BASE"])
    text = probe.http.get(f"{Ports(base).url(stage)}/metrics").text
    name = f'tillstream_heartbeat_seconds_count{{stage="{stage}"}} '
    return int(float(next(line for line in text.splitlines() if line.startswith(name)).split()[-1]))


def figures(probe: Probe) -> dict[str, Any]:
    """All that is counted or kept."""
    ledger = probe.ledger()
    answer = probe.graphql(f"{{ kpis {{ {KPIS} }} salesSeries {{ at lines }} topProducts {{ stockCode }} }}")
    dimensions = ("dim_customers", "dim_products", "dim_invoice", "dim_date")
    return {
        "ledger": ledger,
        "graphql": answer,
        "warehouse": [row["event_id"] for row in probe.warehouse()],
        "dimensions": [probe.sql(f"select count(*) from warehouse.{table}") for table in dimensions],
        "partitions": probe.sql("select count(*) from pg_inherits"),
        "quarantine": probe.sql("select count(*) from ops.quarantine"),
        "fact": sorted(probe.lake()["event_id"]),
        "bronze": sorted(probe.lake("bronze/sales")["key"]),
        "silver": sorted(probe.lake("silver/sales")["event_id"]),
    }


def test_heartbeats_reach_every_stage_and_change_no_figure(probe: Probe) -> None:
    assert probe.post(SALE).status_code == 202
    probe.wait_for(lambda: probe.ledger()["in_flight"] == 0, 60, "the sale in gold")
    probe.wait_for(lambda: "till-heartbeat" in set(probe.lake("silver/sales")["source_system"]), 30, "silver")
    before, seen = figures(probe), {stage: heartbeats(probe, stage) for stage in STAGES}

    url = f"{probe.platform.urls['ingest']}/v1/heartbeat"
    for _ in range(3):
        assert probe.http.post(url).status_code == 202
    for stage in STAGES:
        # The lake notes the newest of a batch.
        more = 1 if stage == "lake" else 3
        probe.wait_for(lambda s=stage, n=more: heartbeats(probe, s) >= seen[s] + n, 60, stage)  # type: ignore[misc]

    probe.wait_for(lambda: _drained(probe), 30, "every group has read them")
    assert figures(probe) == before
    report = checked(probe)
    assert report["equal"] is True, report


def _drained(probe: Probe) -> bool:
    groups = {g["group"]: g["lag"] for g in probe.command("status", "--json")["groups"]}
    assert {"tillstream.quality", "tillstream.warehouse", "tillstream.lake", "tillstream.ledger"} <= set(
        groups
    )
    return not any(groups.values())
