from __future__ import annotations

from pathlib import Path

import pytest

from deploy.local.program import Health, State
from deploy.local.stack import names_in_tree
from deploy.local.status import GroupStatus, ServiceStatus, Status, judge, status, without_process


@pytest.mark.parametrize(
    ("word", "state"),
    [
        ("FATAL", "failed"),
        ("UNKNOWN", "failed"),
        ("BACKOFF", "starting"),
        ("EXITED", "starting"),
        ("STARTING", "starting"),
        ("STOPPED", "stopped"),
        ("STOPPING", "stopped"),
    ],
)
def test_supervisors_word_becomes_our_state(word: str, state: State) -> None:
    assert without_process(word).state == state


def test_process_that_is_late_with_its_readiness_is_degraded() -> None:
    health = Health("starting", "no answer")
    assert judge(health, age_s=10, ready_within_s=60).state == "starting"
    assert judge(health, age_s=61, ready_within_s=60) == Health("degraded", "no answer")


def test_ready_process_stays_ready_however_old() -> None:
    assert judge(Health("ready", lag=3), age_s=1e6, ready_within_s=60) == Health("ready", lag=3)


def test_status_without_a_stack_names_every_service_as_stopped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TILLSTREAM_HOME", str(tmp_path))
    found = status()
    assert not found.running
    assert not found.ready
    assert [service.name for service in found.services] == list(names_in_tree())
    assert {service.state for service in found.services} == {"stopped"}
    assert set(found.urls.values()) == {None}


def test_json_has_the_names_that_others_rely_on() -> None:
    service = ServiceStatus("quality", "ready", pid=7, lag=3, lag_seconds=1.5, p50_ms=2.0, p99_ms=9.0)
    group = GroupStatus("tillstream.quality", 3, 1.5, exact=True)
    document = Status(True, {"kafka": "127.0.0.1:1"}, Path("/lake"), (service,), (group,)).to_json()
    assert document["groups"] == [
        {"group": "tillstream.quality", "lag": 3, "lag_seconds": 1.5, "exact": True}
    ]
    assert document["lake"] == "/lake"
    assert document["urls"] == {"kafka": "127.0.0.1:1"}
    assert (
        document["services"][0].items() >= {"name": "quality", "state": "ready", "pid": 7, "lag": 3}.items()
    )
