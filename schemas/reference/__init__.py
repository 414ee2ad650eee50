"""Reference data: currency codes and countries. Sources and licences: ``README.md`` beside this file.

Files are read on the first call and kept.
"""

import csv
from functools import cache
from pathlib import Path
from typing import Final

import polars as pl

HERE: Final = Path(__file__).parent


@cache
def currencies() -> frozenset[str]:
    """ISO 4217 codes in which a sale may be, in upper case."""
    lines = (HERE / "currencies.txt").read_text(encoding="utf-8").splitlines()
    return frozenset(code for line in lines if not line.startswith("#") for code in line.split())


@cache
def countries() -> pl.DataFrame:
    """Every name of a country: ``name_key``, ``country_code`` (null if it has none), ``region`` (or null).

    ``name_key`` is unique and what :func:`country_key_expr` makes of a name; the ISO codes of two and three
    letters are names too. Raises ``ValueError`` where two rows claim one name.
    """
    rows: dict[str, tuple[str | None, str | None]] = {}
    with (HERE / "countries.csv").open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            names = [row["name"], row["alpha_2"], row["alpha_3"], *row["aliases"].split("|")]
            for key in {country_key(name) for name in names if name}:
                if key in rows:
                    raise ValueError(f"two countries are named {key!r}")
                rows[key] = (row["alpha_2"] or None, row["region"] or None)
    return pl.DataFrame(
        [(key, *place) for key, place in rows.items()],
        schema={"name_key": pl.String, "country_code": pl.String, "region": pl.String},
        orient="row",
    )


def country_key(name: str) -> str:
    """What two spellings of one name have in common: lower case, single spaces, none around it."""
    return " ".join(name.split()).lower()


def country_key_expr(column: str = "country") -> pl.Expr:
    """:func:`country_key` over a column."""
    return pl.col(column).str.strip_chars().str.replace_all(r"\s+", " ").str.to_lowercase()
