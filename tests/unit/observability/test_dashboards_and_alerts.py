"""Dashboards and alerts say what they mean, about metrics that the services really expose."""

from __future__ import annotations

import datetime as dt
import json
import os
import re
from collections.abc import Iterator, Mapping
from functools import cache
from typing import Any

import promql_parser as promql
import pytest
import yaml
from prometheus_client import CollectorRegistry

from deploy.connect.metrics import CdcMetrics
from deploy.local.layout import CHECKOUT
from deploy.local.services import SERVICES
from deploy.observability.dashboards import DASHBOARDS, FOLDER, to_json
from deploy.observability.lag.heartbeat import HeartbeatSender
from deploy.observability.lag.metrics import LagMetrics
from deploy.observability.lag.model import Position, Snapshot
from deploy.observability.lag.pipeline import LagPipeline
from deploy.observability.lag.service import LagService
from enrich_service.metrics import EnrichMetrics
from gold_writer.aggregates.metrics import WindowCount
from gold_writer.lake.metrics import LakeMetrics, watch_jvm
from gold_writer.maintenance.metrics import MaintenanceMetrics
from gold_writer.warehouse.metrics import WarehouseMetrics
from ingest_service.metrics import Metrics as IngestMetrics
from quality_service.guard import Guard
from quality_service.ledger.metrics import LedgerMetrics
from quality_service.ledger.scores import Scores
from quality_service.ledger.watch import Watch
from quality_service.metrics import QualityMetrics
from query_api.metrics import Metrics as QueryMetrics
from streamkit.clock import FakeClock
from streamkit.ports import TopicPartition
from streamkit.stats import StageStats
from tests.unit.observability.test_lag_pipeline import Cluster, measure

OBSERVABILITY = CHECKOUT / "deploy" / "observability"
RUNBOOKS = CHECKOUT / "docs" / "runbooks"
# What Prometheus itself adds.
ADDED_LABELS = {"job", "instance", "le"}
ADDED_METRICS = {"up"}


def alerts() -> list[dict[str, Any]]:
    document = yaml.safe_load((OBSERVABILITY / "alerts.yml").read_text())
    return [rule for group in document["groups"] for rule in group["rules"]]


def expressions() -> list[tuple[str, str]]:
    """Where each stands, and the PromQL."""
    panels = [
        (f"{dashboard.title}: {panel.title}", query)
        for dashboard in DASHBOARDS
        for panel in dashboard.panels
        for query, _ in panel.queries
    ]
    return panels + [(rule["alert"], rule["expr"]) for rule in alerts()]


each_expression = pytest.mark.parametrize(("where", "query"), expressions(), ids=lambda text: str(text)[:60])


@cache
def exposed() -> dict[str, set[str]]:
    """Every sample that a process of ours may expose, with its labels."""
    found: dict[str, set[str]] = {}
    for registry in _registries():
        for collector in list(registry._collector_to_names):
            names = registry._collector_to_names[collector]
            labels = set(getattr(collector, "_labelnames", ()))
            for name in names:
                found.setdefault(name, set()).update(labels)
        for family in registry.collect():
            for sample in family.samples:
                found.setdefault(sample.name, set()).update(sample.labels)
    return found


def _registries() -> Iterator[CollectorRegistry]:
    """As the services' bootstraps put them together."""
    clock = FakeClock()
    for build in (
        IngestMetrics,
        lambda registry: QualityMetrics(registry, _NoIds()),  # type: ignore[arg-type]
        lambda registry: EnrichMetrics(registry, dt.date(2026, 1, 1)),
        WarehouseMetrics,
        lambda registry: WindowCount(registry, lambda: {0: 1}),
        LakeMetrics,
        MaintenanceMetrics,
        LedgerMetrics,
        lambda registry: Guard("any", _NoDeployment(), clock, registry),
        lambda registry: Watch(_no_balance, registry, every_s=1),
        lambda registry: Scores(None, registry, every_s=1),  # type: ignore[arg-type]
        CdcMetrics,
    ):
        stats = StageStats("some", clock)
        build(stats.registry)
        yield stats.registry
    query = StageStats("query", clock)
    QueryMetrics(query)
    yield query.registry
    lag = StageStats("lag", clock)
    LagService(LagPipeline(Cluster(), [], clock), lag, clock, max_age_s=1, interval_s=1)
    HeartbeatSender("http://127.0.0.1:1", 0, lag.registry)
    lag.registry.register(LagMetrics(_snapshot, "c"))
    yield lag.registry
    jvm = CollectorRegistry()
    watch_jvm(jvm, os.getpid)
    yield jvm


class _NoDeployment:
    """A guard's memory of nothing."""

    def load(self) -> None:
        return None

    def save(self, deployment: Mapping[str, Any]) -> None:
        return None


async def _no_balance() -> dict[str, Any]:
    raise AssertionError("nothing is drawn here")


class _NoIds:
    def count(self) -> int:
        return 0

    def size_bytes(self) -> int:
        return 0


def _snapshot() -> Snapshot:
    sales = TopicPartition("sales", 0)
    return measure(Cluster(ends={sales: 8}, groups=[Position("stores", sales, 8)]))


def selectors(node: Any) -> Iterator[Any]:
    """Every vector selector below a node."""
    if isinstance(node, promql.VectorSelector):
        yield node
    elif isinstance(node, promql.MatrixSelector):
        yield node.vector_selector
    else:
        for name in ("expr", "lhs", "rhs", "args", "param"):
            child = getattr(node, name, None)
            for each in child if isinstance(child, list) else [child]:
                if each is not None:
                    yield from selectors(each)


def test_selectors_of_an_expression_are_all_found() -> None:
    text = "sum by (a) (rate(x_total{b='1'}[5m])) / on (a) group_left max_over_time(y[1h]) > -abs(z)"
    assert sorted(each.name for each in selectors(promql.parse(text))) == ["x_total", "y", "z"]


@each_expression
def test_every_metric_is_exposed_by_a_service_with_the_labels_that_are_asked_for(
    where: str, query: str
) -> None:
    found = list(selectors(promql.parse(query)))
    assert found, where
    known = exposed()
    missing = {each.name for each in found} - known.keys() - ADDED_METRICS
    assert missing == set(), where
    labels = set().union(*(known.get(each.name, set()) for each in found)) | ADDED_LABELS
    matched = {matcher.name for each in found for matcher in each.matchers.matchers}
    grouped = {name for names in re.findall(r"\bby \(([^)]*)\)", query) for name in names.split(", ")}
    assert (matched | grouped) - labels == set(), where


@pytest.mark.parametrize("dashboard", DASHBOARDS, ids=lambda dashboard: dashboard.uid)
def test_dashboard_file_is_what_its_definition_says(dashboard: Any) -> None:
    text = (FOLDER / f"{dashboard.uid}.json").read_text()
    assert text == to_json(dashboard), "run: python -m deploy.observability.dashboards"
    panels = json.loads(text)["panels"]
    cells = [
        (panel["gridPos"]["x"] + dx, panel["gridPos"]["y"])
        for panel in panels
        for dx in range(panel["gridPos"]["w"])
    ]
    assert len(cells) == len(set(cells)), "panels overlap"


def test_no_dashboard_file_is_left_over() -> None:
    assert {file.stem for file in FOLDER.iterdir()} == {dashboard.uid for dashboard in DASHBOARDS}


def test_every_alert_names_a_page_and_every_page_an_alert() -> None:
    rules = alerts()
    assert len({rule["alert"] for rule in rules}) == len(rules)
    named = {rule["annotations"]["runbook_url"] for rule in rules}
    assert named == {str(page.relative_to(CHECKOUT)) for page in RUNBOOKS.glob("*.md")}
    assert all(rule["labels"]["severity"] in ("warning", "critical") for rule in rules)
    assert all(rule["annotations"]["summary"] for rule in rules)


def test_prometheus_scrapes_every_process_of_the_platform() -> None:
    document = yaml.safe_load((OBSERVABILITY / "prometheus.yml").read_text())
    ours = next(job for job in document["scrape_configs"] if job["job_name"] == "tillstream")
    targets = {target for each in ours["static_configs"] for target in each["targets"]}
    assert targets == {f"{service.name}:8080" for service in SERVICES}


def test_panel_on_a_metric_that_nothing_exposes_is_found() -> None:
    query = "rate(tillstream_no_such_thing_total[5m])"
    with pytest.raises(AssertionError):
        test_every_metric_is_exposed_by_a_service_with_the_labels_that_are_asked_for("sabotage", query)


def test_grafana_reads_the_folder_that_compose_mounts() -> None:
    compose = yaml.safe_load((CHECKOUT / "compose.yaml").read_text())["services"]
    provider = yaml.safe_load((OBSERVABILITY / "grafana/provisioning/dashboards/tillstream.yml").read_text())[
        "providers"
    ][0]
    mounts = [mount.split(":")[:2] for mount in compose["grafana"]["volumes"]]
    assert ["./deploy/observability/grafana/dashboards", provider["options"]["path"]] in mounts
    source = yaml.safe_load((OBSERVABILITY / "grafana/provisioning/datasources/prometheus.yml").read_text())[
        "datasources"
    ][0]
    panel = json.loads(to_json(DASHBOARDS[0]))["panels"][0]
    assert panel["datasource"] == {"type": "prometheus", "uid": source["uid"]}
