"""Random changes, repeats, kills and lost answers: what the topic ends with is what the plain model says."""

from __future__ import annotations

import datetime as dt
from random import Random
from typing import Any

import polars as pl
import pytest

from enrich_service.dimensions.state import DimensionState
from streamkit.ports import CommitOutcomeUnknown, TransactionAborted
from streamkit.runner import Runner
from tests.unit.dimensions.debezium import event
from tests.unit.dimensions.dimension_model import Change, Version, histories
from tests.unit.dimensions.dimension_world import as_model
from tests.unit.dimensions.test_dimension_pipeline import AT, DIM, World

EPOCH = dt.datetime(1970, 1, 1)
SEGMENTS, COUNTRIES, MEMBERS = ("RETAIL", "GOLD", None), ("EIRE", "France"), ("a", "b", "c")


class Schedule:
    """One random history and what befalls the builder meanwhile."""

    def __init__(self, seed: int) -> None:
        self.rng = Random(seed)
        self.world = World()
        self.runner: Runner = self.world.start()
        self.changes: list[Change] = []
        self.sent: list[dict[str, Any]] = []

    def run(self, steps: int) -> None:
        for _ in range(steps):
            self.change()
            self.befall()
            if self.rng.random() < 0.6:
                self.runner.step()
        self.world.drain(self.runner)

    def change(self) -> None:
        lsn, rng = len(self.changes) + 1, self.rng
        # Commits in order; now and then two at one instant, or one that says it began long ago.
        commit = AT + lsn // 2
        valid_from = rng.choice([None, None, 3, 5]) if rng.random() < 0.5 else None
        member = rng.choice(MEMBERS)
        if rng.random() < 0.2:
            told = event("d", lsn, commit, before={"customer_id": member})
            self.changes.append(Change(member, EPOCH + dt.timedelta(microseconds=commit), lsn, None))
        else:
            row = {"customer_id": member, "segment": rng.choice(SEGMENTS), "country": rng.choice(COUNTRIES)}
            at = EPOCH + dt.timedelta(microseconds=commit)
            if valid_from is not None:
                at = dt.datetime(2010, 12, valid_from)
                row["valid_from"] = f"{at:%Y-%m-%dT%H:%M:%S}.000000Z"
            told = event("c", lsn, commit, after=row)
            self.changes.append(Change(member, at, lsn, (row["segment"], row["country"])))
        self.sent.append(told)
        # The connector was killed: it repeats its last second.
        again = self.sent[-rng.randrange(1, 5) :] if rng.random() < 0.2 else []
        self.world.change(*again, told)

    def befall(self) -> None:
        lot = self.rng.random()
        if lot < 0.15:
            self.runner = self.world.start()
        elif lot < 0.25:
            self.world.broker.fail_next("commit", TransactionAborted("rebalanced", retriable=True))
        elif lot < 0.4:
            after = self.rng.random() < 0.5
            self.world.broker.fail_next("commit", CommitOutcomeUnknown("no answer"), after=after)

    def found(self) -> list[Version]:
        rows = list(self.world.published().values())
        return as_model(pl.DataFrame(rows, schema=self.world.codecs[DIM].columns))

    def expected(self) -> list[Version]:
        return histories(self.changes, [])


def agrees(seed: int, steps: int = 14) -> bool:
    schedule = Schedule(seed)
    schedule.run(steps)
    return schedule.found() == schedule.expected()


@pytest.mark.parametrize("seed", range(8))
def test_history_survives_kills_repeats_and_lost_answers(seed: int) -> None:
    assert agrees(seed)


@pytest.mark.long
@pytest.mark.parametrize("seed", range(100, 1100))
def test_a_thousand_histories_survive(seed: int) -> None:
    assert agrees(seed, steps=20)


def test_builder_that_restores_nothing_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        DimensionState, "_read", lambda self, member, codec: pl.DataFrame(schema=codec.columns)
    )
    # It even notices by itself that what it had made is gone; where it goes on, the model tells.
    monkeypatch.setattr("enrich_service.dimensions.state.any", lambda _: False, raising=False)
    assert not all(agrees(seed) for seed in range(4))
