"""The ledger's own checks: an alert names what is wrong, and goes when it is right again."""

from __future__ import annotations

import asyncio
from typing import Any

from fastapi import HTTPException
from prometheus_client import CollectorRegistry

from quality_service.ledger.watch import Watch

FIGURES = {"accepted": 7, "duplicates": 1, "quarantined": 2, "resolved": 1, "in_flight": 0}
GOOD: dict[str, Any] = {**FIGURES, "balanced": True, "findings": []}
FINDING = {"kind": "missing", "stage": "warehouse", "count": 2, "told": "2 missing at warehouse: a, b"}
BAD: dict[str, Any] = {**FIGURES, "balanced": False, "findings": [FINDING]}


class Books:
    """Answers the balances that it is given, in turn."""

    def __init__(self, *answers: dict[str, Any] | Exception) -> None:
        self.answers = list(answers)
        self.registry = CollectorRegistry()
        self.watch = Watch(self.balance, self.registry, every_s=15)

    async def balance(self) -> dict[str, Any]:
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    def check(self) -> str | None:
        asyncio.run(self.watch.check())
        return self.watch.alert

    def metric(self, name: str, **labels: str) -> float | None:
        return self.registry.get_sample_value(f"tillstream_ledger_{name}", labels)


def test_an_imbalance_raises_an_alert_that_names_ids_and_stage_until_it_is_right_again() -> None:
    books = Books(GOOD, BAD, GOOD)
    assert books.check() is None
    assert books.check() == "the ledger does not balance: 2 missing at warehouse: a, b"
    assert books.metric("findings", kind="missing", stage="warehouse") == 2
    assert books.check() is None
    assert books.metric("findings", kind="missing", stage="warehouse") is None


def test_a_store_that_cannot_be_read_is_no_imbalance_and_hides_none() -> None:
    books = Books(HTTPException(503), BAD, OSError("away"))
    assert books.check() is None
    assert books.check() is not None
    assert books.check() is not None


def test_a_sum_that_is_wrong_without_a_name_is_told_too() -> None:
    assert "not the sum" in str(Books({**BAD, "findings": []}).check())
