"""Country names of the data and of the world."""

from __future__ import annotations

import polars as pl
import pytest

from enrich_service.countries import CountryTable
from schemas import reference

# Of one word, from the whole year of Online Retail.
NAMES = [
    "Australia",
    "Austria",
    "Bahrain",
    "Belgium",
    "Brazil",
    "Canada",
    "Cyprus",
    "Denmark",
    "EIRE",
    "Finland",
    "France",
    "Germany",
    "Greece",
    "Iceland",
    "Israel",
    "Italy",
    "Japan",
    "Lebanon",
    "Lithuania",
    "Malta",
    "Netherlands",
    "Norway",
    "Poland",
    "Portugal",
    "RSA",
    "Singapore",
    "Spain",
    "Sweden",
    "Switzerland",
    "USA",
]


@pytest.fixture(scope="module")
def countries() -> CountryTable:
    return CountryTable(reference.countries())


def resolved(countries: CountryTable, *names: str | None) -> list[tuple[str | None, str | None]]:
    frame = pl.DataFrame(
        {"row": range(len(names)), "country": names}, schema_overrides={"country": pl.String}
    )
    out = countries.add_to(frame)
    assert out["row"].to_list() == list(range(len(names)))
    return list(zip(out["country_code"], out["region"], strict=True))


@pytest.mark.parametrize(
    ("name", "code", "region"),
    [
        ("United Kingdom", "GB", "Europe"),
        ("EIRE", "IE", "Europe"),
        ("RSA", "ZA", "Africa"),
        ("USA", "US", "Americas"),
        ("Channel Islands", None, "Europe"),
        ("European Community", None, "Europe"),
        ("Unspecified", None, None),
        ("Czech Republic", "CZ", "Europe"),
        ("Hong Kong", "HK", "Asia"),
        ("Atlantis", None, None),
        ("", None, None),
        (None, None, None),
    ],
)
def test_name_resolves(
    countries: CountryTable, name: str | None, code: str | None, region: str | None
) -> None:
    assert resolved(countries, name) == [(code, region)]


@pytest.mark.parametrize("name", ["france", " FRANCE ", "FR", "fra", "France\u00a0"])
def test_spelling_does_not_matter(countries: CountryTable, name: str) -> None:
    assert resolved(countries, name) == [("FR", "Europe")]


def test_every_country_of_the_data_set_is_known(countries: CountryTable) -> None:
    names = [*NAMES, "Czech Republic", "Hong Kong", "Saudi Arabia", "United Arab Emirates", "United Kingdom"]
    assert [code for code, _ in resolved(countries, *names) if code is None] == []


def test_batch_keeps_its_rows_and_order(countries: CountryTable) -> None:
    pairs = resolved(countries, "EIRE", None, "USA", "EIRE", "Atlantis")
    assert [code for code, _ in pairs] == ["IE", None, "US", "IE", None]
