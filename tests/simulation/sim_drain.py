"""After the faults: the world must come to rest by itself (L5)."""

from __future__ import annotations

from streamkit.ports import TopicPartition
from tests.simulation.sim_items import ENRICHED, QUARANTINE, TOPICS
from tests.simulation.sim_laws import LawBroken
from tests.simulation.sim_machine import settle
from tests.simulation.sim_services import GROUPS, LAKE, READS
from tests.simulation.sim_world import Slot, World

ROUNDS = 150
"""Of one step of every process each, a second apart where nothing happens."""


def drain(world: World) -> None:
    """Raises `LawBroken` (L5) where something keeps waiting, or a process does not become ready."""
    _heal(world)
    for _ in range(ROUNDS):
        wrote = [world.step(slot) for slot in world.slots if slot.wanted]
        waiting = _waiting(world)
        if any(wrote):
            continue
        if not waiting and _all_ready(world):
            return
        world.clock.advance(1.0)
    raise LawBroken("L5", f"still waiting: {waiting}; {[_state(slot) for slot in world.slots]}")


def _heal(world: World) -> None:
    """Every fault ends: servers are back, the group has noticed the dead, who has no slot any more is
    gone."""
    for slot in list(world.slots):
        if slot.orphan and slot.process:
            world.bury(slot.process)
        elif slot.process and not slot.wanted:
            world.stop(slot.process)
    world.clock.fire_all()
    world.registry_up, world.quarantine_down = True, False
    world.broker.down = world.database.down = False
    world.database.lose_next_answer = False
    world.database.slow = lambda: None
    for slot in world.slots:
        if slot.process:
            slot.process.faults.clear()


def _waiting(world: World) -> list[str]:
    """Partitions that a stage has not read to their end, or whose end an open transaction hides."""
    settle(world.broker)
    found = [
        f"readers of {tp}"
        for topic in TOPICS
        for tp in world.broker.partitions(topic)
        if world.broker.log(tp).last_stable_offset < world.broker.log(tp).high_watermark
    ]
    for service in sorted(READS.keys() & world.services()):
        topic = READS[service]
        committed = world.broker.committed_offsets(GROUPS[service])
        found += [
            f"{service} {tp}"
            for tp in world.broker.partitions(topic)
            if _more(world, tp, committed.get(tp, 0))
        ]
    at = world.database.tables.positions
    for topic in (ENRICHED, QUARANTINE):
        found += [
            f"warehouse {tp}"
            for tp in world.broker.partitions(topic)
            if _more(world, tp, at[tp].next_offset if tp in at else 0)
        ]
    return found


def _more(world: World, tp: TopicPartition, position: int) -> bool:
    return bool(world.broker.log(tp).read(position, 1))


def _all_ready(world: World) -> bool:
    return all(
        slot.process and (slot.service == LAKE or slot.process.stats.state == "ready")
        for slot in world.slots
        if slot.wanted
    )


def _state(slot: Slot) -> str:
    return f"{slot.name} {slot.process.stats.state if slot.process else 'down'}"
