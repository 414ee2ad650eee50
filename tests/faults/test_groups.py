"""Consumer groups under attack: members that stand still and come back, and members that come and go."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import confluent_kafka as ck
import pytest
from confluent_kafka.admin import AdminClient, OffsetSpec

from deploy.local.testing import Platform
from tests.faults.load import Load
from tests.faults.world import Instance, World, fetch, wait_for

pytestmark = pytest.mark.long

SESSION_S = 10.0
STORM_S, GUST_S = 20.0, 1.5
# What a member learns that was taken for dead: by its producer, by its group, or by the warehouse's books.
FENCED = r"Fenced|FENCED|PRODUCER_EPOCH|UNKNOWN_MEMBER|ILLEGAL_GENERATION|batch aborted"
ANOTHER_WRITER = r"AnotherWriter|moved by another writer|Postgres: "


@contextmanager
def frozen_in_mid_batch(world: World, service: str, load: Load) -> Iterator[None]:
    """SIGSTOP while its transaction is open, in Kafka or in Postgres; SIGCONT at the end of the block."""
    in_mid_batch = {"quality": quality_transactions, "warehouse": warehouse_transactions}[service]
    pid = world.pid(service)
    for attempt in range(40):
        load.burst(f"{service}-{attempt}", 3_000)
        time.sleep(0.01 * (attempt % 20))
        os.kill(pid, signal.SIGSTOP)
        try:
            found = in_mid_batch(world.platform)
            time.sleep(0.5)
            # Those of the other instance have ended by now.
            if found & in_mid_batch(world.platform):
                yield
                return
        finally:
            os.kill(pid, signal.SIGCONT)
    raise AssertionError(f"{service} was never met in mid-batch")


def quality_transactions(platform: Platform) -> set[Any]:
    """Partitions of its decisions that hold records of an open transaction, each with where it begins."""
    return open_transactions(platform.urls["kafka"], "sales.decisions.v1")


def open_transactions(kafka: str, topic: str) -> set[Any]:
    admin = AdminClient({"bootstrap.servers": kafka, "log_level": 0})
    partitions = admin.list_topics(topic, timeout=10).topics[topic].partitions
    wanted = {ck.TopicPartition(topic, partition): OffsetSpec.latest() for partition in partitions}
    stable, end = (
        {tp.partition: answer.result().offset for tp, answer in answers.items()}
        for answers in (
            admin.list_offsets(wanted, isolation_level=ck.IsolationLevel.READ_COMMITTED),
            admin.list_offsets(wanted, isolation_level=ck.IsolationLevel.READ_UNCOMMITTED),
        )
    )
    return {(partition, offset) for partition, offset in stable.items() if offset < end[partition]}


def warehouse_transactions(platform: Platform) -> set[Any]:
    """Postgres' sessions of the writer that are within a transaction, each with when it began."""
    rows = fetch(platform.urls["postgres"], _SESSIONS)
    return {(row["pid"], row["xact_start"]) for row in rows}


_SESSIONS = """
    select pid, xact_start from pg_stat_activity
    where application_name = 'tillstream.warehouse' and xact_start is not null
"""


@pytest.mark.parametrize(
    ("service", "evidence"),
    [("quality", FENCED), ("warehouse", ANOTHER_WRITER)],
    ids=["quality", "warehouse"],
)
def test_the_write_of_an_instance_that_stood_still_is_fenced(
    world: World, service: str, evidence: str
) -> None:
    with world.fault(f"zombie-{service}") as load, world.second(service, "1") as heir:
        wait_for(heir.is_ready, 60, "the second instance")
        log = world.log(service)
        with frozen_in_mid_batch(world, service, load):
            stopped = time.monotonic()
            # On all partitions at once, those of the one that stands still among them.
            later = load.burst(f"{service}-later", 300)
            wait_for(lambda: world.held_by_warehouse(later) == later, 60, "the heir to take everything over")
            taken_over = time.monotonic() - stopped
            time.sleep(max(SESSION_S + 1 - taken_over, 0))
        line = wait_for(lambda: log.says(evidence), 60, "the one that stood still to be told so")
        print(f"{service}: taken over {taken_over:.1f} s after the stop; then: {line[:300]}")


def test_a_rebalance_storm_loses_and_doubles_nothing(world: World) -> None:
    with world.fault("storm"), ExitStack() as running:
        members: dict[tuple[str, str], Instance] = {}
        gusts = 0
        slots = [(service, slot) for slot in ("1", "2") for service in ("quality", "enrich")]
        until = time.monotonic() + STORM_S
        while time.monotonic() < until:
            service, slot = name = slots[gusts % len(slots)]
            if name in members:
                # Half of them leave as they should, half do not.
                member = members.pop(name)
                member.process.send_signal(signal.SIGTERM if gusts % 8 < 4 else signal.SIGKILL)
            else:
                members[name] = running.enter_context(world.second(service, slot))
            gusts += 1
            time.sleep(GUST_S)
        joined = sum(world.member_log(*name).read_text().count('"partitions": ["') for name in slots)
        print(f"{gusts} members came or went; partitions were given or taken {joined} times")
        assert joined > 0, "no member had time to join"
