"""Servers that are away, and a quarantine that cannot be written: what needs them waits, nothing is lost."""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import fastavro
import pytest
from confluent_kafka.admin import AdminClient, AlterConfigOpType, ConfigEntry, ConfigResource

from deploy.local.layout import CHECKOUT
from schemas.identity import murmur2_partition
from tests.faults.load import RAW, Item, framed
from tests.faults.world import World, wait_for

pytestmark = pytest.mark.long

QUARANTINE = "sales.quarantine.v1"
SCHEMA = json.loads((CHECKOUT / "schemas" / "avro" / "sales.raw.v1.avsc").read_text())


def test_a_service_that_starts_without_the_registry_waits_for_it(world: World) -> None:
    with world.fault("registry-cold"):
        with world.stopped("registry"):
            log = world.log("quality")
            world.kill("quality")
            wait_for(lambda: log.says("retry_scheduled"), 60, "quality to ask for it again")
            pid = world.pid("quality")
            assert not world.is_ready("quality")
        wait_for(lambda: world.is_ready("quality"), 60, "quality ready once the registry is there")
        assert world.pid("quality") == pid, "it waited, and was not started again and again"


def test_an_unknown_schema_without_the_registry_pauses_its_partition_alone(world: World) -> None:
    with world.fault("registry-warm") as load:
        newer = with_new_field(world)
        schema_id = newer.pop("id")
        with world.stopped("registry"):
            ids = [str(uuid.uuid4()) for _ in range(50)]
            sales = [Item(20 * i).sale(load.avro.source) | {"event_id": event} for i, event in enumerate(ids)]
            records = [framed(sale, schema_id, newer["schema"]) for sale in sales]
            load.avro.send_all(records, partition=0)
            load.sent.gold |= set(ids)
            wait_for(lambda: "registry" in world.reason("quality"), 30, "quality to say what it waits for")
            before = {event for event, at in [load.latest() or ("", 0.0)]}
            # Two of three partitions go on: new events of the load reach the warehouse meanwhile.
            going = wait_for(
                lambda: fresh(world, load.sent.gold - before), 30, "the other partitions to go on"
            )
            time.sleep(3)
            items = world.sql("select 1 from ops.quarantine where event_id = any($1)", ids)
            assert (items, world.held_by_warehouse(ids)) == ([], set())
            print(f"the others went on meanwhile: {going} events")
        wait_for(lambda: world.held_by_warehouse(ids) == set(ids), 60, "the paused records in gold")


def fresh(world: World, among: set[str]) -> int:
    """Events accepted in the last two seconds that are in the warehouse."""
    recent = "select event_id from warehouse.fact_sales where ingest_ts > now() - interval '2 seconds'"
    return len({row["event_id"] for row in world.sql(recent)} & among)


def with_new_field(world: World) -> dict[str, Any]:
    """Registers a compatible version of the raw schema that no process has seen: its id and itself."""
    name = f"till_{uuid.uuid4().hex[:6]}"
    schema = SCHEMA | {"fields": [*SCHEMA["fields"], {"name": name, "type": "string", "default": ""}]}
    answer = world.post(
        f"{world.registry}/subjects/sales.raw.v1-value/versions", {"schema": json.dumps(schema)}
    )
    return {"id": int(answer["id"]), "schema": fastavro.parse_schema(schema)}


@contextmanager
def unwritable(world: World, topic: str) -> Iterator[None]:
    """Nothing but a transaction's marker is small enough for the topic within the block."""
    admin = AdminClient({"bootstrap.servers": world.kafka})

    def limit(size: str) -> None:
        entry = ConfigEntry("max.message.bytes", size, incremental_operation=AlterConfigOpType.SET)
        resource = ConfigResource(ConfigResource.Type.TOPIC, topic, incremental_configs=[entry])
        for answer in admin.incremental_alter_configs([resource]).values():
            answer.result(30)

    limit("200")
    try:
        yield
    finally:
        limit("33554432")


def test_a_quarantine_that_cannot_be_written_stops_quality_and_loses_nothing(world: World) -> None:
    with world.fault("quarantine-unwritable") as load:
        log = world.log("quality")
        with unwritable(world, QUARANTINE):
            event_id = str(uuid.uuid4())
            sale = Item(7).sale(load.avro.source) | {"event_id": event_id}
            home = int(murmur2_partition([event_id.encode()], len(world.ends(RAW)))[0])
            ((partition, offset),) = load.avro.send_all([framed(sale, world.raw_schema_id)], partition=home)
            load.sent.refused.add(event_id)
            said = wait_for(lambda: log.says("MSG_SIZE_TOO_LARGE"), 60, "quality to say what is wrong")
            wait_for(lambda: not world.is_ready("quality"), 60, "quality to be seen as not ready")
            reason = world.reason("quality")
            time.sleep(5)
            assert world.committed("tillstream.quality").get(partition, 0) <= offset
            assert world.sql("select 1 from ops.quarantine where event_id = $1", event_id) == []
            print(f"said: {said[:300]}; reason: {reason}")
        wait_for(
            lambda: world.sql("select 1 from ops.quarantine where event_id = $1", event_id),
            90,
            "the item in quarantine once it can be written",
        )
