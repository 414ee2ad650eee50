"""What is done about a connector follows from its file and from what Connect says."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from deploy.connect import FOLDER, SLOT
from deploy.connect.reconcile import Action, Backoff, Connector, Observed, action, root_cause
from deploy.local.layout import CHECKOUT

SHOP = Connector.load(FOLDER / "shop.json")
TRACE = """org.apache.kafka.connect.errors.ConnectException: Tolerance exceeded in error handler
\tat org.apache.kafka.connect.runtime.errors.RetryWithToleranceOperator.execAndHandleError(X.java:1)
Caused by: org.apache.kafka.connect.errors.DataException: shop
\tat a.b.C.d(C.java:1)
Caused by: io.apicurio.registry.rest.client.exception.RuleViolationException: Incompatible artifact: x
\tat a.b.C.d(C.java:1)
\t... 3 more
"""


def observed(
    connector: str = "RUNNING",
    tasks: tuple[str, ...] = ("RUNNING",),
    trace: str = "",
    config: Mapping[str, str] | None = None,
) -> Observed:
    """As the REST API tells it."""
    entry: dict[str, Any] = {
        "info": {"config": {**SHOP.config, **(config or {}), "name": SHOP.name}},
        "status": {
            "connector": {"state": connector, "worker_id": "w"},
            "tasks": [{"id": i, "state": state, "trace": trace} for i, state in enumerate(tasks)],
        },
    }
    return Observed.of(entry)


def test_connector_as_its_file_says_and_running_is_left_alone() -> None:
    assert action(SHOP, observed()) is Action.NOTHING
    assert observed().trouble() is None


def test_missing_or_changed_connector_is_configured() -> None:
    assert action(SHOP, None) is Action.CONFIGURE
    assert action(SHOP, observed(config={"slot.name": "another"})) is Action.CONFIGURE
    # The new file may be the repair of the failure.
    assert action(SHOP, observed(tasks=("FAILED",), config={"slot.name": "another"})) is Action.CONFIGURE


@pytest.mark.parametrize("found", [observed(tasks=("FAILED",)), observed(connector="FAILED", tasks=())])
def test_failed_connector_or_task_is_restarted(found: Observed) -> None:
    assert action(SHOP, found) is Action.RESTART


@pytest.mark.parametrize("state", ["PAUSED", "STOPPED", "RESTARTING"])
def test_connector_that_a_person_paused_is_told_and_not_restarted(state: str) -> None:
    assert action(SHOP, observed(tasks=(state,))) is Action.NOTHING
    assert observed(tasks=(state,)).trouble() == f"its task is {state}"


def test_failure_is_told_by_its_root_cause_in_one_line() -> None:
    told = "RuleViolationException: Incompatible artifact: x"
    assert observed(tasks=("FAILED",), trace=TRACE).trouble() == root_cause(TRACE) == told
    assert root_cause("java.lang.RuntimeException: alone\n\tat x") == "RuntimeException: alone"
    assert root_cause("") == "no reason given"


def test_waits_grow_to_a_limit_and_begin_anew_once_it_ran_for_a_while() -> None:
    backoff, now_s, waits = Backoff(first_s=1, max_s=8, settled_s=60), 0.0, []
    for _ in range(5):
        backoff.tried(now_s)
        start_s = now_s
        while not backoff.due(now_s):
            now_s += 0.5
        waits.append(now_s - start_s)
    assert waits == [1, 2, 4, 8, 8]
    backoff.ran(now_s)
    backoff.ran(now_s + 59)
    assert backoff.attempts == 5
    backoff.ran(now_s + 60)
    assert backoff.attempts == 0


def test_task_that_fails_soon_after_each_restart_never_gets_the_short_wait_again() -> None:
    backoff = Backoff(first_s=1, max_s=60, settled_s=60)
    for now_s in range(0, 600, 59):
        backoff.tried(now_s)
        backoff.ran(now_s + 1)
        backoff.ran(now_s + 58)
    assert backoff.attempts == 11


@pytest.mark.parametrize("text", ["{", "[]", '{"name": "x"}', '{"name": "x", "config": 3}'])
def test_file_that_is_no_connector_is_named(tmp_path: Path, text: str) -> None:
    (tmp_path / "broken.json").write_text(text)
    with pytest.raises(ValueError, match=r"broken\.json"):
        Connector.load(tmp_path / "broken.json")


def test_shop_is_captured_whole_from_its_publication_and_no_secret_is_in_the_file() -> None:
    migration = (CHECKOUT / "deploy/postgres/migrations/0010_shop.sql").read_text()
    published = re.search(r"CREATE PUBLICATION (\w+)\s+FOR TABLE ([^;]+);", migration)
    assert published is not None
    tables = published[2].replace(",", " ").split()
    assert SHOP.config["publication.name"] == published[1]
    assert [*SHOP.config["table.include.list"].split(","), "ops.cdc_heartbeat"] == tables
    assert SHOP.config["slot.name"] == SLOT
    assert "customer_keys" not in json.dumps(dict(SHOP.config))
    assert SHOP.config["database.password"] == "${env:TILLSTREAM_CDC_PASSWORD}"
