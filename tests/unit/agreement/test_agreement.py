"""The check of dimensions in three stores sees every difference."""

from __future__ import annotations

import datetime as dt
from decimal import Decimal

import polars as pl
import pytest

from gold_writer.agreement.compare import canonical, differences
from schemas.catalogue import load_topics
from schemas.codec import Codec
from schemas.dimensions import PRODUCTS
from schemas.example_files import examples
from schemas.fakes import InMemoryRegistry

TOPIC = load_topics()[PRODUCTS.topic]
COLUMNS = Codec(TOPIC.schema_text, InMemoryRegistry()).columns
ROWS = examples(TOPIC)
KEY = PRODUCTS.surrogate_key


def elsewhere(frame: pl.DataFrame) -> pl.DataFrame:
    """As a store has it: times with a zone, prices as decimals."""
    price = pl.col("list_price_micros").cast(pl.Decimal(38, 6)) / 1_000_000
    return frame.with_columns(pl.col(pl.Datetime).dt.replace_time_zone("UTC"), list_price=price).drop(
        "list_price_micros"
    )


def test_same_versions_in_three_forms_are_equal() -> None:
    stored = canonical(elsewhere(ROWS), COLUMNS)
    assert Decimal("2.55") in elsewhere(ROWS)["list_price"].to_list()
    report = differences({"topic": ROWS, "warehouse": stored, "lake": stored.reverse()}, KEY)
    assert report["equal"]
    assert report["versions"] == {"topic": len(ROWS), "warehouse": len(ROWS), "lake": len(ROWS)}


@pytest.mark.parametrize("what", ["missing", "extra", "other_values", "a microsecond", "a null"])
def test_every_kind_of_difference_is_found_and_named(what: str) -> None:
    there, topic = ROWS, ROWS
    if what == "missing":
        there = ROWS[1:]
    elif what == "extra":
        topic = ROWS[1:]
    elif what == "other_values":
        there = ROWS.with_columns(list_price_micros=pl.col("list_price_micros") + 1)
    elif what == "a microsecond":
        there = ROWS.with_columns(pl.col("expiry_date") + dt.timedelta(microseconds=1))
    else:
        there = ROWS.with_columns(supplier=pl.lit(None, pl.String))
    report = differences({"topic": topic, "lake": there}, KEY)
    found = report["differing"]["lake"]
    assert not report["equal"]
    assert found["examples"]
    kind = what if what in found else "other_values"
    assert found[kind] >= 1
