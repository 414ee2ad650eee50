"""Each break turns the check red, in the law that it breaks, within a few hundred schedules."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.simulation.sim_ledger import audit
from tests.simulation.sim_sabotage import IN_COLUMN_WORK, SABOTAGES
from tests.simulation.sim_schedule import run
from tests.simulation.sim_services import Parts

WITHIN = 400
"""Schedules; most turn red within twenty."""


@pytest.mark.parametrize("name", SABOTAGES)
def test_sabotage_turns_the_check_red(name: str) -> None:
    law, make = SABOTAGES[name]
    seen = []
    for found in broken(make(), real=name in IN_COLUMN_WORK):
        seen.append(found)
        if found.startswith(law):
            return
    pytest.fail(f"{law} never turned red in {WITHIN} schedules; what did: {seen[:3]}")


def test_nothing_is_red_without_sabotage() -> None:
    assert list(broken(Parts(), within=100)) == []


def broken(parts: Parts, within: int = WITHIN, *, real: bool = False) -> Iterator[str]:
    """What the check says of each schedule that breaks a law."""
    for seed in range(within):
        outcome = run(seed, parts, real=real)
        if outcome.broken:
            yield outcome.broken
        elif outcome.entries:
            yield from (f"ledger: {wrong}" for _, wrong in audit([outcome.entries]))
