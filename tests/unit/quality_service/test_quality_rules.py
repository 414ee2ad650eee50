"""Compiling and evaluating the contract's rules."""

from __future__ import annotations

import polars as pl
import pytest

from quality_service.rules import Rules
from schemas.contract import CONTEXT, Contract, Rule
from tests.unit.quality_service.quality_bench import NOW_MS, default_contract, sale


def rule(name: str, expression: str, weight: float = 0.0) -> Rule:
    severity = "warning" if weight else "error"
    return Rule(name, severity, "accuracy", f"{name} applies.", expression, weight)


def rows(*sales: dict[str, object]) -> pl.DataFrame:
    columns = {name: dtype for name, dtype in CONTEXT.items() if name in sale()}
    return pl.DataFrame(list(sales), schema=columns)


def test_first_rule_in_contract_order_is_the_reason_and_all_are_recorded() -> None:
    contract = Contract("1", [rule("B", "quantity > 1"), rule("ENGINE", ""), rule("A", "quantity > 0")], [])
    rules = Rules(contract)
    judged = rules.judge(rows(sale(quantity=2), sale(quantity=1), sale(quantity=0)), NOW_MS)
    reason, names = rules.rejections(judged.reject)
    assert reason.to_list() == ["B", "A", None]
    assert names.to_list() == [["B", "A"], ["A"], []]


def test_null_counts_as_not_applying() -> None:
    rules = Rules(Contract("1", [rule("A", "customer_id = '1'"), rule("B", "NOT (customer_id = '1')")], []))
    assert rules.judge(rows(sale(customer_id=None)), NOW_MS).reject.tolist() == [0]


def test_score_falls_by_the_weights_and_stops_at_zero() -> None:
    warn = [rule("A", "quantity > 0", 0.2), rule("B", "quantity > 1", 0.1), rule("C", "quantity > 2", 0.9)]
    rules = Rules(Contract("1", [], warn))
    judged = rules.judge(rows(*[sale(quantity=n) for n in (0, 1, 2, 3)]), NOW_MS)
    scores, names = rules.warnings(judged.warn)
    assert scores.to_list() == [1.0, 0.8, 0.7, 0.0]
    assert names.to_list() == [[], ["A"], ["A", "B"], ["A", "B", "C"]]


def test_amount_beyond_64_bits_is_unknown_and_still_compared_exactly() -> None:
    rules = Rules(Contract("1", [rule("BIG", "total_amount_micros > 9223372036854775807")], []))
    big = sale(quantity=2**31 - 1, unit_price_micros=2**62)
    judged = rules.judge(rows(big, sale(quantity=-3)), NOW_MS)
    assert judged.reject.tolist() == [1, 0]
    assert judged.amount_micros.to_list() == [None, -7_650_000]


def test_empty_batch_is_judged() -> None:
    rules = Rules(default_contract())
    judged = rules.judge(rows(), NOW_MS)
    assert judged.reject.tolist() == []
    assert rules.rejections(judged.reject)[0].to_list() == []
    assert rules.warnings(judged.warn)[1].to_list() == []


def test_engine_rules_of_the_contract_have_a_place_in_the_order() -> None:
    rules = Rules(default_contract())
    assert rules.bit("ID_CONFLICT") == 1
    assert rules.bit("UNDECODABLE") > rules.bit("ID_CONFLICT")
    with pytest.raises(KeyError):
        rules.bit("NO_SUCH_RULE")


@pytest.mark.parametrize(
    ("given", "warning"),
    [
        ({"customer_id": None}, "NO_CUSTOMER"),
        ({"description": None}, "NO_DESCRIPTION"),
        ({"unit_price_micros": 0}, "ZERO_PRICE"),
        ({"stock_code": "POST"}, "NOT_A_PRODUCT"),
        ({"country": "Unspecified"}, "UNKNOWN_COUNTRY"),
        ({"country": None}, "UNKNOWN_COUNTRY"),
    ],
)
def test_default_warnings(given: dict[str, object], warning: str) -> None:
    rules = Rules(default_contract())
    judged = rules.judge(rows(sale(**given), sale()), NOW_MS)
    assert judged.reject.tolist() == [0, 0]
    assert rules.warnings(judged.warn)[1].to_list() == [[warning], []]


@pytest.mark.parametrize("country", ["EIRE", "RSA", "USA", "united  kingdom"])
def test_names_of_the_retailers_countries_are_known(country: str) -> None:
    rules = Rules(default_contract())
    assert rules.judge(rows(sale(country=country)), NOW_MS).warn.tolist() == [0]
