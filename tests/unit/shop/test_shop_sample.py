"""The shop's first data follow from the sample by plain rules, the same every time."""

from __future__ import annotations

import csv
import statistics
from collections import defaultdict
from pathlib import Path

import polars as pl
import pytest

from deploy.local.layout import CHECKOUT
from deploy.shop import people, sample

SAMPLE = CHECKOUT / "samples" / "online-retail"


@pytest.fixture(scope="module")
def lines() -> pl.DataFrame:
    return sample.read(SAMPLE)


def test_list_price_is_the_median_of_the_samples_positive_prices(lines: pl.DataFrame) -> None:
    prices: dict[str, list[float]] = defaultdict(list)
    for path in SAMPLE.glob("*.csv"):
        with path.open(newline="") as file:
            for row in csv.DictReader(file):
                code = row["StockCode"].strip()
                if code[:5].isdigit() and int(row["Quantity"]) > 0 and float(row["UnitPrice"]) > 0:
                    prices[code].append(float(row["UnitPrice"]))
    found = {row["stock_code"]: row["list_price"] for row in sample.products(lines).rows(named=True)}
    assert found.keys() >= prices.keys()
    assert all(
        abs(float(found[code]) - statistics.median(values)) <= 0.0051 for code, values in prices.items()
    )
    assert {code for code, price in found.items() if price is None} == found.keys() - prices.keys()


def test_every_known_customer_of_the_sample_is_there_once_and_no_guest(lines: pl.DataFrame) -> None:
    expected = set()
    for path in SAMPLE.glob("*.csv"):
        with path.open(newline="") as file:
            for row in csv.DictReader(file):
                if row["CustomerID"] and int(row["Quantity"]) > 0:
                    expected.add(row["CustomerID"].removesuffix(".0"))
    found = sample.customers(lines)["customer_id"].to_list()
    assert sorted(found) == sorted(expected)


def test_tiers_are_a_tenth_three_tenths_and_the_rest(lines: pl.DataFrame) -> None:
    tiers = sample.customers(lines)["tier"].to_list()
    share = {tier: tiers.count(tier) / len(tiers) for tier in set(tiers)}
    assert share["gold"] == pytest.approx(0.1, abs=0.01)
    assert share["silver"] == pytest.approx(0.3, abs=0.01)


@pytest.mark.parametrize(
    ("description", "category"),
    [
        ("WHITE HANGING HEART T-LIGHT HOLDER", "Lighting and candles"),
        ("CHRISTMAS LIGHTS 10 REINDEER", "Seasonal"),
        ("JUMBO BAG RED RETROSPOT", "Bags and purses"),
        ("INFLATABLE POLITICAL GLOBE", "Gifts and other"),
    ],
)
def test_category_is_the_first_rule_with_a_word_of_the_description(description: str, category: str) -> None:
    assert sample.categorise(description)[0] == category


def test_person_is_the_same_every_time_and_another_for_another_id() -> None:
    ada = people.person("17850", "United Kingdom")
    assert people.person("17850", "United Kingdom") == ada
    assert people.person("17851", "United Kingdom") != ada
    assert set(ada) == {"name", "email", "phone", "address"}
    # RFC 2606: nobody's address.
    assert ada["email"].rpartition("@")[2] in {"example.com", "example.net", "example.org"}


def test_folder_without_its_columns_is_an_error_that_names_one(tmp_path: Path) -> None:
    (tmp_path / "x.csv").write_text("A,B\n1,2\n")
    with pytest.raises(pl.exceptions.ColumnNotFoundError, match="StockCode"):
        sample.read(tmp_path)
