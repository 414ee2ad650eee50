"""A customer written by REST v1: the change in GraphQL and in both stores, the sale at its version."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from typing import Any

import polars as pl

from tests.e2e.conftest import Probe

GRACE = {
    "customer_id": "e2e-grace",
    "name": "Grace Murray Hopper",
    "email": "grace@example.com",
    "country": "EIRE",
    "tier": "bronze",
}
CUSTOMER = """
query ($id: String!, $asOf: DateTime) {
  customer(id: $id, asOf: $asOf) {
    name email country valueTier isCurrent versionNumber customerKey effectiveDate
    history { valueTier versionNumber isCurrent customerKey }
  }
}
"""


def wait_for(
    look: Callable[[], Any], wanted: Callable[[Any], bool], seconds: float, every_s: float = 0.02
) -> Any:
    """What `look` found once it is `wanted`; the last look is in the failure."""
    deadline = time.monotonic() + seconds
    while not wanted(found := look()):
        assert time.monotonic() < deadline, f"still {found} after {seconds} s"
        time.sleep(every_s)
    return found


def test_change_by_rest_is_a_new_version_in_graphql_and_in_both_stores(probe: Probe) -> None:
    customers = f"{probe.platform.urls['query']}/api/v1/customers"
    identity = str(GRACE["customer_id"])

    def asked(as_of: str | None = None) -> Any:
        return probe.graphql(CUSTOMER, {"id": identity, "asOf": as_of})["customer"]

    made = probe.http.post(customers, json=GRACE)
    assert made.status_code == 201, made.text
    first = wait_for(asked, lambda found: found is not None, 30)
    assert (first["name"], first["email"], first["valueTier"]) == (GRACE["name"], GRACE["email"], "bronze")
    sent = time.monotonic()
    tag = made.headers["etag"]
    changed = probe.http.patch(f"{customers}/{identity}", json={"tier": "gold"}, headers={"If-Match": tag})
    assert changed.status_code == 200, changed.text
    now = wait_for(asked, lambda found: found["valueTier"] == "gold", 30)
    print(f"REST to GraphQL: {1000 * (time.monotonic() - sent):.0f} ms")
    assert [(v["valueTier"], v["versionNumber"], v["isCurrent"]) for v in now["history"]] == [
        ("bronze", 1, False),
        ("gold", 2, True),
    ]
    assert asked("2010-12-01T00:00:00Z")["valueTier"] == "bronze"
    keys = {int(v["customerKey"]) for v in now["history"]}
    stored = probe.sql(
        "select customer_key, name from warehouse.dim_customers where customer_id = $1", identity
    )
    assert {row["customer_key"] for row in stored} == keys
    assert not any(str(GRACE["name"]) in str(row["name"]) for row in stored), "personal data in clear"

    def in_the_lake() -> set[int]:
        table = probe.lake("gold/dim_customers").filter(pl.col("customer_id") == identity)
        return set(table["customer_key"].to_list())

    wait_for(in_the_lake, lambda found: found == keys, 60, every_s=0.5)
    print(f"REST to Delta: {time.monotonic() - sent:.1f} s")


def test_sale_points_at_the_version_that_was_true_when_it_was_made(probe: Probe) -> None:
    versions = probe.graphql(CUSTOMER, {"id": GRACE["customer_id"], "asOf": None})["customer"]
    by_tier = {v["valueTier"]: v["customerKey"] for v in versions["history"]}

    def sell(invoice: str, at: str) -> str:
        body = {
            "source_system": "e2e-asof", "invoice_no": invoice, "line_no": 1, "stock_code": "85123A",
            "quantity": 1, "unit_price": "2.55", "currency": "GBP", "country": "EIRE",
            "customer_id": GRACE["customer_id"], "invoice_ts": at,
        }  # fmt: skip
        answer = probe.post(json.dumps(body).encode())
        assert answer.status_code == 202, answer.text
        return str(answer.json()["items"][0]["event_id"])

    effective = versions["effectiveDate"]
    before, after = (
        sell("A1", "2010-12-01T08:26:00Z"),
        sell("A2", time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())),
    )
    assert effective > "2010-12-01"

    def keys() -> dict[str, str]:
        rows = probe.sql(
            "select event_id, customer_key from warehouse.fact_sales where source_system = 'e2e-asof'"
        )
        return {row["event_id"]: str(row["customer_key"]) for row in rows}

    expected = {before: by_tier["bronze"], after: by_tier["gold"]}
    wait_for(keys, lambda found: found == expected, 30, every_s=0.1)
