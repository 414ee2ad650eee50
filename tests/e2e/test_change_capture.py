"""A change written by REST is on the shop's topic a moment later, and only as ciphertext."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from typing import Any

import asyncpg
import pytest

from deploy.local.ports import Ports
from tests.e2e.conftest import Probe
from tests.integration.cdc_topics import Topics, final_rows, metric, quantile_ms

ADA = {
    "customer_id": "cdc-ada",
    "name": "Ada Byron Lovelace",
    "email": "ada.lovelace@example.com",
    "phone": "+44 20 7946 0958",
    "address": "12 St James's Square, London",
    "country": "United Kingdom",
}
SECRETS = [str(ADA[name]).encode() for name in ("name", "email", "phone", "address")]


@pytest.fixture
def topics(probe: Probe) -> Iterator[Topics]:
    urls = probe.platform.urls
    opened = Topics(urls["kafka"], urls["registry"], ["customers", "products"])
    yield opened
    opened.close()


def test_customer_written_by_rest_is_captured_whole_and_encrypted(probe: Probe, topics: Topics) -> None:
    customers = f"{probe.platform.urls['query']}/api/v1/customers"
    made = probe.http.post(customers, json=ADA, headers={"Idempotency-Key": "cdc-ada"})
    assert made.status_code == 201, made.text
    path, tag = f"{customers}/{ADA['customer_id']}", made.headers["etag"]
    changed = probe.http.patch(path, json={"tier": "gold"}, headers={"If-Match": tag})
    assert changed.status_code == 200, changed.text
    assert probe.http.delete(path, headers={"If-Match": changed.headers["etag"]}).status_code == 204
    key = (ADA["customer_id"],)

    def own() -> list[Any]:
        return [change for change in topics.of("customers") if change.key == key]

    topics.read_until(lambda: len(own()) >= 3, 30, lambda: f"{own()}")
    created, updated, deleted = own()
    assert [created.op, updated.op, deleted.op] == ["c", "u", "d"]
    assert created.before is None
    assert deleted.after is None
    # The whole row before the change, and no other field than the one that was changed.
    assert updated.before == created.after
    assert deleted.before == updated.after
    different = {name for name in updated.after if updated.after[name] != updated.before[name]}
    assert different == {"tier", "version", "updated_at"}
    assert not any(secret in change.raw for change in own() for secret in SECRETS)


@pytest.mark.parametrize(("table", "key"), [("customers", "customer_id"), ("products", "stock_code")])
def test_first_snapshot_and_changes_together_are_the_table(
    probe: Probe, topics: Topics, table: str, key: str
) -> None:
    expected = {row[key]: row["version"] for row in probe.sql(f"select {key}, version from shop.{table}")}
    assert len(expected) > 200

    def captured() -> dict[str, int]:
        return {own[0]: row["version"] for own, row in final_rows(topics.changes, table).items()}

    topics.read_until(lambda: captured() == expected, 30, lambda: f"{len(captured())} of {len(expected)}")


def test_change_arrives_soon_after_its_commit(probe: Probe, topics: Topics) -> None:
    urls = probe.platform.urls
    topics.read_until(lambda: topics.poll(1.0) is None, 30, lambda: "the topics do not come to an end")

    async def measure() -> list[float]:
        db = await asyncpg.connect(urls["postgres"])
        latencies = []
        try:
            code = await db.fetchval("select min(stock_code) from shop.products")
            for number in range(40):
                await db.execute(
                    "update shop.products set supplier = $1 where stock_code = $2", f"S{number}", code
                )
                committed_s = time.monotonic()
                while (change := topics.poll(5.0)) is None or (change.after or {}).get(
                    "supplier"
                ) != f"S{number}":
                    assert time.monotonic() - committed_s < 20, "the change did not arrive"
                latencies.append(change.at_s - committed_s)
        finally:
            await db.close()
        return latencies

    latencies = asyncio.run(measure())
    p50, p99 = quantile_ms(latencies, 0.5), quantile_ms(latencies, 0.99)
    print(f"commit to consumer: p50 {p50:.0f} ms, p99 {p99:.0f} ms")
    # The objective is 500 ms to the dimension; a test machine does other things too.
    assert p50 < 500


def test_connector_and_slot_are_told_in_status_and_metrics(probe: Probe) -> None:
    assert probe.platform.service("connectors")["state"] == "ready"
    assert probe.http.get(f"{probe.platform.urls['connect']}/connectors").json() == ["shop"]
    base = int(probe.platform.env["TILLSTREAM_PORT_BASE"])
    text = probe.http.get(f"{Ports(base).url('connectors')}/metrics").text
    assert metric(text, "tillstream_connect_connector_state", connector="shop", state="RUNNING") == 1
    assert metric(text, "tillstream_connect_task_state", connector="shop", state="RUNNING") == 1
    assert metric(text, "tillstream_cdc_slot_active") == 1
    assert metric(text, "tillstream_cdc_slot_lost") == 0
    assert metric(text, "tillstream_cdc_slot_retained_bytes") < metric(text, "tillstream_cdc_slot_safe_bytes")
    # Its configuration names the secrets and does not hold them.
    config = probe.http.get(f"{probe.platform.urls['connect']}/connectors/shop/config").json()
    assert config["database.password"] == "${env:TILLSTREAM_CDC_PASSWORD}"
