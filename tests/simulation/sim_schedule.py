"""One schedule: a seed decides everything that happens; then the faults end, the world drains, and laws are
checked."""

from __future__ import annotations

import logging
import shutil
import tempfile
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

from streamkit import crashpoints
from tests.simulation import sim_laws
from tests.simulation.sim_crashpoints import points_of
from tests.simulation.sim_drain import drain
from tests.simulation.sim_items import EVENTS, Item, items
from tests.simulation.sim_laws import LawBroken
from tests.simulation.sim_ledger import Entries
from tests.simulation.sim_machine import BAITS, PORT_FAULTS
from tests.simulation.sim_services import LAKE, QUALITY, Parts, Process
from tests.simulation.sim_world import Broken, Slot, World

REAL_EVERY = 40
"""One schedule in so many runs the real pipelines, one in `LMDB_EVERY` the id stores on disk."""
LMDB_EVERY = 15
LENGTH, MAX_DEPTH = (12, 40), 2
RAM_DISK = Path("/dev/shm")

KILL, ERROR, FREEZE, EXPEL, REPLACE = "kill", "error", "freeze", "freeze and expel", "freeze and replace"


@dataclass
class Ambush:
    """What happens to a process of `service` at `point`, after it passed `passes` times."""

    service: str
    point: str
    how: str
    passes: int


@dataclass
class Outcome:
    """Of one schedule. `broken`: the law and what broke it, or None. `killed` counts kills at each (service,
    crash point), `done` the actions and other ambushes."""

    seed: int
    broken: str | None
    actions: list[str]
    killed: Counter[tuple[str, str]]
    done: Counter[str]
    entries: Entries | None = None


@dataclass
class Schedule:
    seed: int
    parts: Parts = field(default_factory=Parts)
    real: bool | None = None

    def __post_init__(self) -> None:
        self.rng = Random(self.seed)
        real = self.seed % REAL_EVERY == 0 if self.real is None else self.real
        self._folder = _folder() if self.seed % LMDB_EVERY == 1 else None
        self.world = World(self.rng, self.parts, real=real, lmdb=self._folder)
        self.killed: Counter[tuple[str, str]] = Counter()
        self.done: Counter[str] = Counter()
        self.pool = self._pool()
        self.astray = self.rng.choice([0.0, 0.1, 0.4])
        points = points_of()
        self.ambushes = [
            Ambush(*self.rng.choice(points), how=self._how(), passes=self.rng.randrange(3))
            for _ in range(self.rng.randrange(12))
        ]
        self._lay_baits()
        self.calm = self.rng.random() < 0.15

    def run(self) -> Outcome:
        world, broken, entries = self.world, None, None
        crashpoints.arm(self._passing)
        try:
            with self.parts.patched():
                for _ in range(self.rng.randint(*LENGTH)):
                    self._act()
                self.world.note("the faults end")
                self.ambushes.clear()
                drain(world)
                crashpoints.disarm()
                entries = sim_laws.check(world)
        except LawBroken as law:
            broken = str(law)
        finally:
            crashpoints.disarm()
            world.close()
            if self._folder:
                shutil.rmtree(self._folder, ignore_errors=True)
        if entries:
            entries.seed = self.seed
        return Outcome(self.seed, broken, world.actions, self.killed, self.done, entries)

    def _pool(self) -> list[Item]:
        """Few events with all their variants, so that ids meet."""
        numbers = set(self.rng.sample(range(EVENTS), self.rng.randint(1, 4)))
        every = items()
        of_events = [item for item in every if item.partition_key and int(item.name[1]) in numbers]
        unreadable = [item for item in every if not item.partition_key]
        return of_events + self.rng.sample(unreadable, self.rng.randrange(3))

    def _lay_baits(self) -> None:
        """The side ways of the protocol are passed only where something fails: see to it."""
        for ambush in self.ambushes:
            for fault in BAITS.get(ambush.point, []):
                self.world.baits.setdefault(ambush.service, []).append(fault)

    def _how(self) -> str:
        return self.rng.choices([KILL, ERROR, FREEZE, EXPEL, REPLACE], [4, 1, 1, 2, 2])[0]

    # Ambushes ---------------------------------------------------------------------------------------

    def _passing(self, point: str) -> None:
        """A process passes a crash point."""
        process = self.world.running[-1]
        process.life.check()
        for ambush in self.ambushes:
            if (ambush.service, ambush.point) == (process.service, point):
                ambush.passes -= 1
                if ambush.passes < 0:
                    self.ambushes.remove(ambush)
                    self._spring(process, ambush)
                    return

    def _spring(self, process: Process, ambush: Ambush) -> None:
        world = self.world
        world.note(f"{process.name} at {ambush.point}: {ambush.how}")
        self.done[ambush.how] += 1
        if ambush.how == KILL:
            self.killed[process.service, ambush.point] += 1
            world.bury(process)
        elif ambush.how == ERROR:
            raise Broken(f"at {ambush.point}")
        elif len(world.running) <= MAX_DEPTH:
            self._freeze(process, ambush.how)
            world.note(f"{process.name} goes on")
        process.life.check()

    def _freeze(self, process: Process, how: str) -> None:
        """As SIGSTOP, while others go on; some of them in its place."""
        world = self.world
        process.frozen, orphaned = True, False
        if how in (EXPEL, REPLACE):
            process.lose_session()
        if how == REPLACE and process.service != LAKE:  # one writing process a table: the lake has a lock
            for slot in world.slots:
                if slot.process is process:
                    slot.process = None
            orphaned = True
        for _ in range(self.rng.randint(1, 8)):
            self._act()
        process.frozen = False
        if orphaned and process.life.alive:
            world.slots.append(Slot(process.service, process.slot, process, orphan=True))

    # Actions ----------------------------------------------------------------------------------------

    def _act(self) -> None:
        action = self.rng.choices(ACTIONS, list(WEIGHTS.values()))[0]
        self.done[action.__name__] += 1
        action(self)

    def step_some(self) -> None:
        slot = self.rng.choice(self.world.slots)
        if slot.wanted:
            for _ in range(self.rng.randint(1, 4)):
                self.world.step(slot)

    def step_all(self) -> None:
        for slot in list(self.world.slots):
            if slot.wanted:
                self.world.step(slot)

    def send(self) -> None:
        chosen = self.rng.choices(self.pool, k=self.rng.randint(1, 4))
        self.world.send(chosen, astray=self.astray, acknowledged=True)

    def send_unacknowledged(self) -> None:
        """The producer hears nothing, and sends again."""
        chosen = self.rng.choices(self.pool, k=self.rng.randint(1, 2))
        self.world.send(chosen, astray=self.astray, acknowledged=False, appended=self.rng.random() < 0.5)
        self.world.send(chosen, astray=self.astray, acknowledged=True)

    def quarantine_at_ingest(self) -> None:
        self.world.quarantine_at_ingest(self.rng.choice(["{", "[1,"]))

    def pass_time(self) -> None:
        seconds = self.rng.choice([0.2, 1.0, 3.0, 11.0])
        self.world.note(f"{seconds} s pass")
        self.world.clock.advance(seconds)

    def kill(self) -> None:
        process = self._process()
        if process:
            self.world.bury(process)

    def lose_disk(self) -> None:
        """The machine of a quality process is gone, id stores and all."""
        process = self._process()
        if process and process.service == QUALITY:
            self.world.lose_disk(process)

    def stop(self) -> None:
        """An orderly end, of a process that is not in the middle of something."""
        process = self._process()
        if process and process not in self.world.running:
            self.world.note(f"{process.name} is stopped")
            self.world.stop(process)

    def expel(self) -> None:
        process = self._process()
        if process:
            self.world.note(f"{process.name} loses its session")
            process.lose_session()

    def scale(self) -> None:
        """A second instance joins, or leaves."""
        seconds = [slot for slot in self.world.slots if slot.number]
        if seconds:
            slot = self.rng.choice(seconds)
            slot.wanted = not slot.wanted
            self.world.note(f"{slot.name} {'joins' if slot.wanted else 'leaves'}")
            if not slot.wanted and slot.process and slot.process not in self.world.running:
                self.world.stop(slot.process)

    def port_fault(self) -> None:
        process = self._process()
        if process and not self.calm:
            call, error, after = self.rng.choice(PORT_FAULTS)
            self.world.note(f"{process.name} will meet at {call}: {error()}")
            process.faults.plan(call, error, after=after)

    def outage(self) -> None:
        """A server is away for a while, does not answer once, or is slow."""
        if self.calm:
            return
        world, what = self.world, self.rng.choice([*SWITCHES, "answer", "slow"])
        seconds = self.rng.uniform(0.5, 12.0)
        world.note(f"{what} is in trouble for {seconds:.1f} s")
        if what == "answer":
            world.database.lose_next_answer = True
        elif what == "slow":
            world.database.slow = lambda: world.clock.advance(self.rng.uniform(0, 4))
        else:
            server, name, away = SWITCHES[what]
            setattr(server(world), name, away)
            world.clock.after(seconds, lambda: setattr(server(world), name, not away))

    def _process(self) -> Process | None:
        found = [slot.process for slot in self.world.slots if slot.process]
        return self.rng.choice(found) if found else None


SWITCHES: dict[str, tuple[Callable[[World], object], str, bool]] = {
    "registry": (lambda world: world, "registry_up", False),
    "quarantine": (lambda world: world, "quarantine_down", True),
    "warehouse": (lambda world: world.database, "down", True),
    "broker": (lambda world: world.broker, "down", True),
}
"""Server -> what is set, on what, while it is away."""

WEIGHTS: dict[Callable[[Schedule], None], float] = {
    Schedule.step_some: 14,
    Schedule.step_all: 8,
    Schedule.send: 8,
    Schedule.send_unacknowledged: 1,
    Schedule.quarantine_at_ingest: 1,
    Schedule.pass_time: 3,
    Schedule.kill: 1,
    Schedule.stop: 0.5,
    Schedule.expel: 1,
    Schedule.scale: 2,
    Schedule.port_fault: 2,
    Schedule.outage: 1.5,
    Schedule.lose_disk: 0.5,
}
ACTIONS = list(WEIGHTS)


def run(seed: int, parts: Parts | None = None, *, real: bool | None = None) -> Outcome:
    """Run the schedule of a seed. `real` None: as the seed says."""
    logging.disable(logging.CRITICAL)
    try:
        return Schedule(seed, parts or Parts(), real).run()
    finally:
        logging.disable(logging.NOTSET)


def _folder() -> Path:
    return Path(tempfile.mkdtemp(prefix="tillstream-sim-", dir=RAM_DISK if RAM_DISK.is_dir() else None))
