"""The Grafana dashboards as code: `python -m deploy.observability.dashboards` writes `grafana/dashboards`.

A test holds the files to this module, and every metric that is named here to what the services expose.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

FOLDER: Final = Path(__file__).with_name("grafana") / "dashboards"
_SOURCE: Final = {"type": "prometheus", "uid": "prometheus"}
_WIDTH: Final = 24
_HEIGHT: Final = 8


@dataclass(frozen=True, slots=True)
class Panel:
    """`queries`: PromQL and the legend of its series. `unit`: Grafana's name of it."""

    title: str
    queries: Sequence[tuple[str, str]]
    unit: str = "short"
    kind: str = "timeseries"
    width: int = 12
    about: str = ""


@dataclass(frozen=True, slots=True)
class Dashboard:
    uid: str
    title: str
    panels: Sequence[Panel]


def quantiles(metric: str, label: str, title: str, about: str = "", width: int = 12) -> Panel:
    """p50 and p99 of a histogram by one of its labels, over the last five minutes."""
    rate = f"sum by (le, {label}) (rate({metric}_bucket[5m]))"
    queries = [
        (f"histogram_quantile({q}, {rate})", f"{{{{{label}}}}} {name}")
        for q, name in ((0.5, "p50"), (0.99, "p99"))
    ]
    return Panel(title, queries, "s", about=about, width=width)


_GROUPS: Final = 'group=~"tillstream.*"'

_OVERVIEW: Final = Dashboard(
    "tillstream-overview",
    "Tillstream: overview",
    [
        Panel("Ready", [("min by (stage) (tillstream_ready)", "{{stage}}")], kind="stat", width=24),
        Panel(
            "Lag in records",
            [(f"sum by (group) (kafka_consumergroup_group_lag{{{_GROUPS}}})", "{{group}}")],
            about="Unread records; transaction markers do not count.",
        ),
        Panel(
            "Lag in seconds",
            [(f"max by (group) (kafka_consumergroup_group_lag_seconds{{{_GROUPS}}})", "{{group}}")],
            "s",
            about="Age of the first unread record.",
        ),
        quantiles(
            "tillstream_latency_seconds", "stage", "From acceptance to each stage's commit", "All events."
        ),
        quantiles("tillstream_heartbeat_seconds", "stage", "Heartbeats", "One event a minute, end to end."),
        Panel(
            "Records a second",
            [('sum by (stage) (rate(tillstream_records_total{direction="in"}[1m]))', "{{stage}}")],
            "cps",
        ),
        Panel(
            "Quarantined a second",
            [
                ("sum by (reason) (rate(tillstream_quality_rejections_total[5m]))", "{{reason}}"),
                (
                    'sum(rate(tillstream_ingest_items_total{outcome="quarantined"}[5m]))',
                    "unreadable (ingest)",
                ),
            ],
            "cps",
        ),
        Panel(
            "Ledger: missing, doubled, unexpected, differing",
            [("max by (figure) (tillstream_ledger_errors)", "{{figure}}")],
            kind="stat",
        ),
        Panel("Ledger: in flight", [("max(tillstream_ledger_in_flight)", "receipts")], kind="stat"),
    ],
)

_LATENCY: Final = Dashboard(
    "tillstream-latency",
    "Tillstream: latency",
    [
        quantiles("tillstream_latency_seconds", "stage", "From acceptance to each stage's commit"),
        quantiles("tillstream_hop_seconds", "stage", "Each hop: from the stage before to this one's commit"),
        quantiles("tillstream_heartbeat_seconds", "stage", "Heartbeats, from acceptance to each stage"),
        quantiles("tillstream_heartbeat_request_seconds", "door", "Heartbeats, until ingest acknowledges"),
        quantiles("tillstream_lake_latency_seconds", "table", "Lake: from acceptance to each table"),
        Panel(
            "Live feed: from acceptance to the subscription",
            [
                (
                    f"histogram_quantile({q}, sum by (le) (rate(tillstream_query_live_seconds_bucket[5m])))",
                    name,
                )
                for q, name in ((0.5, "p50"), (0.99, "p99"))
            ],
            "s",
        ),
        quantiles("tillstream_query_request_seconds", "door", "API: time to answer"),
        Panel(
            "Since the last heartbeat",
            [("time() - max by (stage) (tillstream_heartbeat_timestamp_seconds > 0)", "{{stage}}")],
            "s",
        ),
    ],
)

_LAG: Final = Dashboard(
    "tillstream-lag",
    "Tillstream: consumer lag",
    [
        Panel(
            "Records by group, topic and partition",
            [("kafka_consumergroup_group_lag", "{{group}} {{topic}}[{{partition}}]")],
            width=24,
        ),
        Panel(
            "Seconds by group, topic and partition",
            [("kafka_consumergroup_group_lag_seconds", "{{group}} {{topic}}[{{partition}}]")],
            "s",
            width=24,
        ),
        Panel(
            "Records written a second",
            [("sum by (topic) (rate(kafka_partition_latest_offset[5m]))", "{{topic}}")],
            "cps",
            about="By offsets, so transaction markers count.",
        ),
        Panel(
            "Records read a second",
            [("sum by (group) (rate(kafka_consumergroup_group_offset[5m]))", "{{group}}")],
            "cps",
            about="By offsets, so transaction markers count.",
        ),
        Panel("Partitions whose lag is a bound", [("sum(tillstream_lag_bound)", "partitions")], kind="stat"),
        Panel("Time to measure", [("max(kafka_consumergroup_poll_time_ms)", "measurement")], "ms"),
    ],
)

_THROUGHPUT: Final = Dashboard(
    "tillstream-throughput",
    "Tillstream: throughput",
    [
        Panel(
            "Records a second",
            [("sum by (stage, direction) (rate(tillstream_records_total[1m]))", "{{stage}} {{direction}}")],
            "cps",
        ),
        Panel(
            "Items accepted and refused a second",
            [("sum by (door, outcome) (rate(tillstream_ingest_items_total[1m]))", "{{door}} {{outcome}}")],
            "cps",
        ),
        Panel(
            "Bytes received", [("sum by (door) (rate(tillstream_ingest_bytes_total[1m]))", "{{door}}")], "Bps"
        ),
        quantiles("tillstream_ingest_step_seconds", "step", "Ingest: time of each step"),
        Panel(
            "Warehouse: rows a second",
            [("sum by (table) (rate(tillstream_warehouse_rows_total[1m]))", "{{table}}")],
            "cps",
        ),
        Panel(
            "API: answers a second",
            [("sum by (door) (rate(tillstream_query_request_seconds_count[1m]))", "{{door}}")],
            "reqps",
        ),
        Panel(
            "CPU of each process",
            [("sum by (job, instance) (rate(process_cpu_seconds_total[1m]))", "{{instance}}")],
            "percentunit",
        ),
        Panel(
            "Memory of each process",
            [("max by (job, instance) (process_resident_memory_bytes)", "{{instance}}")],
            "bytes",
        ),
    ],
)

_QUALITY: Final = Dashboard(
    "tillstream-quality",
    "Tillstream: quality, quarantine, ledger",
    [
        Panel(
            "Decisions a second",
            [("sum by (outcome) (rate(tillstream_quality_outcomes_total[5m]))", "{{outcome}}")],
            "cps",
        ),
        Panel(
            "Quarantined a second, by reason",
            [("sum by (reason) (rate(tillstream_quality_rejections_total[5m]))", "{{reason}}")],
            "cps",
        ),
        Panel(
            "Warnings a second, by rule",
            [("sum by (rule) (rate(tillstream_quality_warnings_total[5m]))", "{{rule}}")],
            "cps",
        ),
        Panel(
            "Passed on to their partition",
            [("sum(rate(tillstream_quality_rerouted_total[5m]))", "a second")],
            "cps",
        ),
        Panel("Id store: ids", [("sum(tillstream_quality_ids)", "ids")]),
        Panel("Id store: bytes", [("sum(tillstream_quality_id_bytes)", "bytes")], "bytes"),
        Panel(
            "Ledger: receipts by outcome",
            [("max by (outcome) (tillstream_ledger_receipts)", "{{outcome}}")],
            about="Of the last balance that was drawn.",
        ),
        Panel(
            "Ledger: what must be zero",
            [("max by (figure) (tillstream_ledger_errors)", "{{figure}}")],
            about="Of the last balance that was drawn.",
        ),
        Panel(
            "Rows enriched without a value",
            [("sum by (what) (rate(tillstream_enrich_missing_total[5m]))", "{{what}}")],
            "cps",
        ),
        Panel(
            "Age of the newest exchange rates",
            [("time() - max(tillstream_enrich_newest_rate_seconds)", "rates")],
            "s",
        ),
    ],
)

_LAKE: Final = Dashboard(
    "tillstream-lake",
    "Tillstream: lake",
    [
        quantiles("tillstream_lake_batch_seconds", "query", "Duration of a micro-batch"),
        quantiles("tillstream_lake_latency_seconds", "table", "From acceptance to each table"),
        Panel(
            "Rows a second",
            [("sum by (table) (rate(tillstream_lake_rows_total[1m]))", "{{table}}")],
            "cps",
        ),
        Panel("Offsets behind", [("max by (query) (tillstream_lake_behind_offsets)", "{{query}}")]),
        Panel(
            "CPU of the JVM",
            [("rate(tillstream_lake_jvm_process_cpu_seconds_total[1m])", "Spark")],
            "percentunit",
        ),
        Panel("Memory of the JVM", [("tillstream_lake_jvm_process_resident_memory_bytes", "Spark")], "bytes"),
        Panel("Files of each table", [("max by (table) (tillstream_lake_files)", "{{table}}")]),
        Panel("Bytes of each table", [("max by (table) (tillstream_lake_bytes)", "{{table}}")], "bytes"),
        Panel(
            "Since each job last succeeded",
            [
                (
                    "time() - max by (job) (tillstream_maintenance_last_success_timestamp_seconds > 0)",
                    "{{job}}",
                )
            ],
            "s",
        ),
        Panel(
            "Jobs by outcome",
            [
                (
                    "sum by (job, outcome) (increase(tillstream_maintenance_runs_total[1h]))",
                    "{{job}} {{outcome}}",
                )
            ],
        ),
    ],
)

DASHBOARDS: Final = (_OVERVIEW, _LATENCY, _LAG, _THROUGHPUT, _QUALITY, _LAKE)


def to_json(dashboard: Dashboard) -> str:
    """Grafana's JSON model of it."""
    model = {
        "uid": dashboard.uid,
        "title": dashboard.title,
        "tags": ["tillstream"],
        "timezone": "utc",
        "schemaVersion": 39,
        "editable": False,
        "refresh": "10s",
        "time": {"from": "now-30m", "to": "now"},
        "panels": list(_placed(dashboard.panels)),
    }
    return json.dumps(model, indent=1) + "\n"


def _placed(panels: Sequence[Panel]) -> Iterator[dict[str, Any]]:
    """From left to right, row by row."""
    x = y = 0
    for number, panel in enumerate(panels, 1):
        if x + panel.width > _WIDTH:
            x, y = 0, y + _HEIGHT
        yield {
            "id": number,
            "title": panel.title,
            "description": panel.about,
            "type": panel.kind,
            "datasource": _SOURCE,
            "gridPos": {"x": x, "y": y, "w": panel.width, "h": _HEIGHT},
            "fieldConfig": {"defaults": {"unit": panel.unit, "min": 0}, "overrides": []},
            "targets": [
                {"refId": chr(ord("A") + i), "expr": query, "legendFormat": legend, "datasource": _SOURCE}
                for i, (query, legend) in enumerate(panel.queries)
            ],
        }
        x += panel.width


def main() -> None:
    for dashboard in DASHBOARDS:
        (FOLDER / f"{dashboard.uid}.json").write_text(to_json(dashboard))


if __name__ == "__main__":
    main()
