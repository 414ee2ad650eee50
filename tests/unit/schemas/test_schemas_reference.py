"""Reference data are well formed and know the names that the data use."""

import re

import polars as pl
import pytest

from schemas.reference import countries, country_key, country_key_expr, currencies


def test_currencies_are_codes_of_three_letters_and_hold_those_in_use() -> None:
    assert all(re.fullmatch("[A-Z]{3}", code) for code in currencies())
    assert {"GBP", "EUR", "USD", "JPY", "CHF", "HRK", "ZWG"} <= currencies()
    assert not {"XXX", "XTS", "ABC", "gbp", ""} & currencies()


def test_every_country_of_iso_3166_has_a_region() -> None:
    table = countries()
    assert table["name_key"].is_unique().all()
    coded = table.filter(pl.col("country_code").is_not_null())
    assert coded["country_code"].n_unique() == 249
    assert coded["country_code"].str.contains("^[A-Z]{2}$").all()
    assert coded["region"].null_count() == 0
    assert set(coded["region"]) == {"Africa", "Americas", "Antarctica", "Asia", "Europe", "Oceania"}


@pytest.mark.parametrize(
    ("name", "code", "region"),
    [
        ("EIRE", "IE", "Europe"),
        ("RSA", "ZA", "Africa"),
        ("USA", "US", "Americas"),
        ("United Kingdom", "GB", "Europe"),
        ("  hong   kong ", "HK", "Asia"),
        ("Czech Republic", "CZ", "Europe"),
        ("Cyprus", "CY", "Asia"),
        ("Channel Islands", None, "Europe"),
        ("European Community", None, "Europe"),
        ("Unspecified", None, None),
        ("CÔTE D'IVOIRE", "CI", "Africa"),
        ("deu", "DE", "Europe"),
    ],
)
def test_name_is_resolved(name: str, code: str | None, region: str | None) -> None:
    found = countries().filter(name_key=country_key(name))
    assert found.drop("name_key").rows() == [(code, region)]


def test_key_over_a_column_is_that_of_each_name() -> None:
    names = ["  EIRE ", "United   Kingdom", "Türkiye", "", "a\t b"]
    frame = pl.DataFrame({"country": names})
    assert frame.select(country_key_expr()).to_series().to_list() == [country_key(name) for name in names]
