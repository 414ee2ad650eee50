"""The images of compose.yaml, really built and run: a sale posted to the ingest container is in the answer of
the query container, and nothing in them runs as root or can write outside its volumes.

The servers are those of the embedded stack, for official images cannot be had everywhere.
The tests of this file build on one another and run in this order.
"""

from __future__ import annotations

import json
import time
import urllib.request
from collections.abc import Callable, Iterator
from decimal import Decimal
from typing import Any

import pytest

from deploy.local import lifecycle, server_connect, toolchain
from deploy.local.credentials import personal_keys
from deploy.local.layout import Layout
from deploy.local.ports import free_base
from deploy.local.progress import Steps
from deploy.local.services import SERVICES
from deploy.local.stack import SERVERS, Stack
from deploy.local.testing import temporary_home, tools_folder
from tests.e2e import container_engine
from tests.e2e.container_engine import Composed

pytestmark = pytest.mark.long

# The lake last: its image takes longer than all others together.
NAMES = sorted((service.name for service in SERVICES), key=lambda name: name == "lake")
_MIB = 1 << 20
# Measured, with room to grow: polars, pyarrow and numpy make most of it; the lake has Java and Spark.
_LARGEST = {"lake": 2000 * _MIB}
_LARGEST_OTHER = 1000 * _MIB


@pytest.fixture(scope="module")
def composed() -> Iterator[Composed]:
    """Images are built as they are asked for; servers of its own, for these processes' groups and topics."""
    if reason := container_engine.unavailable():
        pytest.skip(reason)
    with container_engine.engine() as engine, temporary_home("containers") as home, Steps() as steps:
        engine.make_base()
        layout = Layout(home, tools_folder()).create()
        ports = free_base()
        servers = Stack.build(layout, ports, toolchain.ensure(layout, steps), (*SERVERS, "connect"))
        lifecycle.up(servers, steps)
        try:
            urls = servers.urls()
            environment = {f"TILLSTREAM_{name.upper()}": str(urls[name]) for name in SERVERS}
            environment |= {
                "TILLSTREAM_CONNECT_URL": str(urls["connect"]),
                "TILLSTREAM_CDC_PASSWORD": server_connect.password(layout),
                **personal_keys(layout),
            }
            yield Composed(engine, environment, {name: ports[name] for name in NAMES})
        finally:
            lifecycle.down(layout, steps)


def _json(url: str, body: object = None) -> Any:
    request = urllib.request.Request(url, headers={"Content-Type": "application/json"})
    data = None if body is None else json.dumps(body).encode()
    with urllib.request.urlopen(request, data=data, timeout=30) as answer:
        return json.load(answer)


def _wait(condition: Callable[[], object], within_s: float, what: Callable[[], str]) -> None:
    deadline = time.monotonic() + within_s
    while not condition():
        assert time.monotonic() < deadline, f"not within {within_s} s: {what()}"
        time.sleep(0.3)


def _is_ready(composed: Composed, name: str) -> bool:
    try:
        _json(f"{composed.url(name)}/ready")
    except OSError:
        return False
    return True


@pytest.mark.parametrize("step", ["topics", "schemas", "migrate"])
def test_setup_step_succeeds_and_may_be_repeated(composed: Composed, step: str) -> None:
    for _ in range(2):
        done = composed.once(step)
        assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("name", NAMES)
def test_process_becomes_ready_and_healthy(composed: Composed, name: str) -> None:
    composed.start(name)
    _wait(lambda: _is_ready(composed, name), 240 if name == "lake" else 120, lambda: composed.logs(name))
    assert composed.is_healthy(name)


@pytest.mark.parametrize("name", NAMES)
def test_process_is_not_root_and_cannot_write_outside_its_volumes(composed: Composed, name: str) -> None:
    code = """
import os
found = {"uid": os.getuid(), "packages": sorted(os.listdir("/app")), "written": []}
for folder in ("/app", "/opt/venv", "/etc", "/var/lib/tillstream"):
    try:
        open(f"{folder}/probe", "w").close()
        found["written"].append(folder)
    except OSError:
        pass
import json; print(json.dumps(found))
"""
    found = json.loads(composed.inside(name, "python", "-c", code))
    module = next(service.module for service in SERVICES if service.name == name)
    package = module.partition(".")[0]
    assert found == {"uid": 10001, "packages": sorted(["schemas", "streamkit", package]), "written": []}
    assert composed.size(name) < _LARGEST.get(name, _LARGEST_OTHER)


def _event(composed: Composed, event_id: str) -> dict[str, Any]:
    """What the query container knows of an event; {} if nothing."""
    question = "query($id: ID!) { event(id: $id) { status sale { amount countryCode } } }"
    body = {"query": question, "variables": {"id": event_id}}
    found = _json(f"{composed.url('query')}/graphql", body)
    return (found.get("data") or {}).get("event") or {}


def test_posted_sale_is_in_graphql_and_a_bad_one_in_quarantine(composed: Composed) -> None:
    sale = {
        "source_system": "container",
        "invoice_no": "1",
        "line_no": 1,
        "stock_code": "85123A",
        "quantity": 2,
        "unit_price": "2.55",
        "currency": "EUR",
        "country": "EIRE",
        "invoice_ts": "2011-03-04T10:00:00Z",
    }
    refused = sale | {"line_no": 2, "quantity": 0}
    answer = _json(f"{composed.url('ingest')}/v1/events/sales", [sale, refused])
    good, bad = (item["event_id"] for item in answer["items"])
    _wait(lambda: _event(composed, good).get("sale"), 60, lambda: str(_event(composed, good)))
    found = _event(composed, good)["sale"]
    assert (Decimal(found["amount"]), found["countryCode"]) == (Decimal("5.10"), "IE")
    _wait(
        lambda: _event(composed, bad).get("status") == "QUARANTINED", 60, lambda: str(_event(composed, bad))
    )


def test_ledger_balances_with_the_sale_in_the_lake_and_in_the_warehouse(composed: Composed) -> None:
    def ledger() -> Any:
        return _json(f"{composed.url('ledger')}/ledger")

    _wait(lambda: ledger()["balanced"] and not ledger()["in_flight"], 60, lambda: str(ledger()))
    gold = ledger()["gold"]
    assert (gold["lake"], gold["warehouse"]) == (1, 1)


@pytest.mark.parametrize("name", NAMES)
def test_process_ends_by_itself_when_told_to_stop(composed: Composed, name: str) -> None:
    # uvicorn finishes and then ends by the signal itself: 128 + 15. 137 would be a kill after the grace time.
    assert composed.stop(name) in (0, 143), composed.logs(name)
