"""The contract's rules as data: the default rules, and every mistake in the file with its line."""

import datetime as dt
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import yaml

from schemas.contract import CONTEXT, HERE, ContractError, load_contract, parse_contract

FILE = HERE / "contracts" / "sales.odcs.yaml"
TEXT = FILE.read_text(encoding="utf-8")
CONTRACT = load_contract()
NOW_MS = 1_700_000_000_000
FINE: dict[str, Any] = {
    "event_id": "e",
    "source_system": "s",
    "invoice_no": "536365",
    "line_no": 1,
    "stock_code": "85123A",
    "description": "mug",
    "quantity": 6,
    "unit_price_micros": 2_550_000,
    "currency": "GBP",
    "customer_id": "17850",
    "country": "United Kingdom",
    "invoice_ts": 1_291_191_960_000,
    "attributes": {},
    "now_ms": NOW_MS,
    "total_amount_micros": 15_300_000,
}


def violated(**changes: Any) -> list[str]:
    """Ids of the rules that a fine sale violates after the changes."""
    row = {**FINE, **changes}
    columns = {name: pl.Int64() if name == "invoice_ts" else dtype for name, dtype in CONTEXT.items()}
    frame = pl.DataFrame([row], schema=columns).with_columns(pl.col("invoice_ts").cast(pl.Datetime("ms")))
    rules = [rule for rule in CONTRACT.reject + CONTRACT.warn if rule.expression]
    marks = frame.select(pl.sql_expr(rule.expression).fill_null(False).alias(rule.id) for rule in rules)
    return [name for name, mark in marks.row(0, named=True).items() if mark]


def ms(text: str) -> int:
    return int(dt.datetime.fromisoformat(text).replace(tzinfo=dt.UTC).timestamp() * 1000)


def test_rejecting_rules_come_in_the_order_of_the_design() -> None:
    assert [rule.id for rule in CONTRACT.reject] == [
        "ID_CONFLICT",
        "EMPTY_KEY",
        "ZERO_QUANTITY",
        "NEGATIVE_QUANTITY",
        "NEGATIVE_PRICE",
        "BAD_CURRENCY",
        "TIMESTAMP_RANGE",
        "AMOUNT_RANGE",
        "KEY_RANGE",
        "UNDECODABLE",
    ]
    assert [rule.id for rule in CONTRACT.reject if not rule.expression] == ["ID_CONFLICT", "UNDECODABLE"]


def test_warnings_have_weights_that_leave_a_score() -> None:
    assert [rule.id for rule in CONTRACT.warn] == [
        "NO_CUSTOMER",
        "NO_DESCRIPTION",
        "ZERO_PRICE",
        "NOT_A_PRODUCT",
        "UNKNOWN_COUNTRY",
    ]
    assert 0 < sum(rule.weight for rule in CONTRACT.warn) < 1


@pytest.mark.parametrize(
    ("changes", "rules"),
    [
        ({}, []),
        ({"invoice_no": ""}, ["EMPTY_KEY"]),
        ({"stock_code": ""}, ["EMPTY_KEY", "NOT_A_PRODUCT"]),
        ({"quantity": 0}, ["ZERO_QUANTITY"]),
        ({"quantity": -1}, ["NEGATIVE_QUANTITY"]),
        ({"quantity": -1, "invoice_no": "C536379"}, []),
        ({"quantity": -1, "invoice_no": "c536379"}, ["NEGATIVE_QUANTITY"]),
        ({"unit_price_micros": -1}, ["NEGATIVE_PRICE"]),
        ({"currency": "XYZ"}, ["BAD_CURRENCY"]),
        ({"currency": ""}, ["BAD_CURRENCY"]),
        ({"invoice_ts": ms("2000-01-01T00:00:00")}, []),
        ({"invoice_ts": ms("2000-01-01T00:00:00") - 1}, ["TIMESTAMP_RANGE"]),
        ({"invoice_ts": NOW_MS + 86_400_000}, []),
        ({"invoice_ts": NOW_MS + 86_400_001}, ["TIMESTAMP_RANGE"]),
        ({"invoice_ts": 2**63 - 1}, ["TIMESTAMP_RANGE"]),
        ({"invoice_ts": -(2**63)}, ["TIMESTAMP_RANGE"]),
        ({"unit_price_micros": 10**18}, ["AMOUNT_RANGE"]),
        ({"total_amount_micros": 10**18}, ["AMOUNT_RANGE"]),
        ({"total_amount_micros": -(10**18)}, ["AMOUNT_RANGE"]),
        ({"total_amount_micros": 2**90}, ["AMOUNT_RANGE"]),
        ({"invoice_no": "9" * 201}, ["KEY_RANGE"]),
        ({"event_id": "9" * 201}, ["KEY_RANGE"]),
        ({"country": "é" * 200}, ["UNKNOWN_COUNTRY"]),
        ({"total_amount_micros": 10**18 - 1}, []),
        ({"customer_id": None}, ["NO_CUSTOMER"]),
        ({"description": None}, ["NO_DESCRIPTION"]),
        ({"unit_price_micros": 0}, ["ZERO_PRICE"]),
        ({"stock_code": "POST"}, ["NOT_A_PRODUCT"]),
        ({"stock_code": "85123"}, []),
        ({"stock_code": "15056BL"}, []),
        ({"stock_code": "851234"}, ["NOT_A_PRODUCT"]),
        ({"country": None}, ["UNKNOWN_COUNTRY"]),
        ({"country": "Atlantis"}, ["UNKNOWN_COUNTRY"]),
        ({"country": "Unspecified"}, ["UNKNOWN_COUNTRY"]),
        ({"country": "eire"}, []),
        ({"country": "Hong  Kong"}, []),
        ({"country": "Côte d'Ivoire"}, []),
    ],
)
def test_rule_applies_at_its_boundary_and_not_before(changes: dict[str, Any], rules: list[str]) -> None:
    assert violated(**changes) == rules


def test_nulls_violate_only_the_rules_about_what_is_missing() -> None:
    assert violated(**dict.fromkeys(FINE)) == [
        "EMPTY_KEY",
        "NO_CUSTOMER",
        "NO_DESCRIPTION",
        "UNKNOWN_COUNTRY",
    ]


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("quantity = 0", "quantity = = 0", "rule 'ZERO_QUANTITY'"),
        ("quantity = 0", "quantitty = 0", "rule 'ZERO_QUANTITY': knows no column quantitty"),
        ("quantity = 0", "quantity + 1", "rule 'ZERO_QUANTITY': gives Int"),
        ("quantity = 0", "NO_SUCH(quantity)", "rule 'ZERO_QUANTITY'"),
        ("implementation: quantity = 0", "implementation: 5", "implementation"),
        ("({currencies})", "({currencys})", "knows no list {currencys}, only countries, currencies"),
        ("name: ZERO_QUANTITY", "name: EMPTY_KEY", "taken by an earlier rule"),
        ("name: ZERO_QUANTITY", "name: zero", "upper case"),
        ("severity: warning", "severity: fatal", "rule 'NO_CUSTOMER': severity is error or warning"),
        ("dimension: timeliness", "dimension: punctuality", "rule 'TIMESTAMP_RANGE': dimension is one of"),
        ("engine: polars-sql", "engine: duckdb", "rule 'EMPTY_KEY': must be of type custom"),
        ("value: 0.2", "value: 2", "rule 'NO_CUSTOMER': a warning has a weight"),
        ("customProperties: [{property: weight, value: 0.2}]", "", "a warning has a weight"),
        ("kind: DataContract", "kind: Poem", "no DataContract"),
        ("apiVersion: v3.0.2", "apiVersion: v2.2.2", "apiVersion v3"),
        ("    quality:", "    qualities:", "has no rules"),
        ("status: active", "state: active", "state"),
        ("kind: DataContract", "kind: [", "contract"),
    ],
)
def test_mistake_in_the_file_is_named(old: str, new: str, message: str) -> None:
    assert old in TEXT
    with pytest.raises(ContractError, match=message.replace("(", r"\(").replace("{", r"\{")):
        parse_contract(TEXT.replace(old, new, 1))


def test_mistake_names_the_line_of_its_rule() -> None:
    line = next(number for number, text in enumerate(TEXT.splitlines(), 1) if "name: ZERO_QUANTITY" in text)
    with pytest.raises(ContractError, match=f"sales.yaml, line {line}, rule 'ZERO_QUANTITY'"):
        parse_contract(TEXT.replace("quantity = 0", "quantity ="), "sales.yaml")


def test_file_is_found_wherever_it_lies(tmp_path: Path) -> None:
    copy = tmp_path / "mine.yaml"
    copy.write_text(TEXT, encoding="utf-8")
    assert load_contract(copy) == CONTRACT


def test_context_has_every_property_of_the_contract() -> None:
    properties = [entry["name"] for entry in yaml.safe_load(TEXT)["schema"][0]["properties"]]
    assert [*properties, "now_ms", "total_amount_micros"] == list(CONTEXT)
