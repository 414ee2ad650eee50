"""The live totals of the running platform: equal to the facts, window by window, also after a kill."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import uuid
from decimal import Decimal
from typing import Any

import pytest
import websockets

from deploy.local.demo import sale_lines
from deploy.local.layout import CHECKOUT
from tests.e2e.conftest import SAMPLE, Probe
from tests.e2e.recount import read

KPIS = "revenue grossRevenue returns orders lines units customers averageOrderValue"


def post_sample(probe: Probe, source: str) -> int:
    """One day of the sample in pieces, as another source's; returns how many lines will be in gold."""
    lines = [line.replace(b'"online-retail"', f'"{source}"'.encode()) for line in sale_lines(SAMPLE[0])]
    for begin in range(0, len(lines), 200):
        body = b"".join(lines[begin : begin + 200])
        assert probe.post(body, "application/x-ndjson", items="false").status_code == 202
    return sum(not line.is_refused for line in read(SAMPLE[:1]))


def subscribed(probe: Probe) -> dict[str, Any]:
    """The first message of the `kpis` subscription."""

    async def ask() -> dict[str, Any]:
        url = str(probe.platform.urls["graphql"]).replace("http://", "ws://")
        protocol = websockets.Subprotocol("graphql-transport-ws")
        async with websockets.connect(url, subprotocols=[protocol]) as socket:
            await socket.send(json.dumps({"type": "connection_init"}))
            assert json.loads(await socket.recv())["type"] == "connection_ack"
            query = f"subscription {{ kpis {{ {KPIS} }} }}"
            await socket.send(json.dumps({"id": "1", "type": "subscribe", "payload": {"query": query}}))
            message = json.loads(await socket.recv())
            assert "errors" not in message["payload"], message
            found: dict[str, Any] = message["payload"]["data"]["kpis"]
            return found

    return asyncio.run(ask())


def facts(probe: Probe) -> dict[str, Any]:
    """The same figures by the query, from the warehouse."""
    found: dict[str, Any] = probe.graphql(f"{{ kpis {{ {KPIS} }} }}")["kpis"]
    return found


def checked(probe: Probe) -> dict[str, Any]:
    """What `python -m gold_writer.aggregates.check` says."""
    urls = probe.platform.urls
    env = {
        **os.environ,
        "PYTHONPATH": str(CHECKOUT),
        "TILLSTREAM_KAFKA": urls["kafka"],
        "TILLSTREAM_REGISTRY": urls["registry"],
        "TILLSTREAM_POSTGRES": urls["postgres"],
    }
    done = subprocess.run(
        [sys.executable, "-m", "gold_writer.aggregates.check"],
        env=env,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.stdout, done.stderr
    report: dict[str, Any] = json.loads(done.stdout)
    return report


@pytest.mark.parametrize("kill", [False, True])
def test_the_live_totals_equal_the_facts(probe: Probe, kill: bool) -> None:
    before = subscribed(probe)
    if kill:
        os.kill(probe.platform.service("aggregates")["pid"], signal.SIGKILL)
    wanted = before["lines"] + post_sample(probe, f"till-{uuid.uuid4().hex[:8]}")
    probe.wait_for(lambda: bool(subscribed(probe)["lines"] == wanted), 90, "the live totals to count all")
    probe.wait_for(lambda: bool(facts(probe)["lines"] == wanted), 90, "the warehouse to have all")
    live = subscribed(probe)
    assert live == facts(probe)
    assert Decimal(live["revenue"]) == Decimal(live["grossRevenue"]) + Decimal(live["returns"])
    report = checked(probe)
    assert report["equal"], report
    assert report["windows"] > 1_000
