"""The date dimension: fiscal calendar and public holidays. Pure.

A fiscal year is named after the calendar year in which it ends, and begins on the first of a month; fiscal
quarters and months count from there. Holidays come from the `holidays` library, by country.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import date
from typing import Final

import holidays
import polars as pl

SCHEMA: Final = {
    "date_key": pl.Int32,
    "full_date": pl.Date,
    "year": pl.Int32,
    "quarter": pl.Int32,
    "month": pl.Int32,
    "month_name": pl.String,
    "day": pl.Int32,
    "iso_year": pl.Int32,
    "iso_week": pl.Int32,
    "iso_weekday": pl.Int32,
    "day_name": pl.String,
    "is_weekend": pl.Boolean,
    "fiscal_year": pl.Int32,
    "fiscal_quarter": pl.Int32,
    "fiscal_month": pl.Int32,
    "is_holiday": pl.Boolean,
    "holidays": pl.String,
}


def calendar(first: date, last: date, *, fiscal_start: int, countries: Sequence[str]) -> pl.DataFrame:
    """One row a day from `first` to `last`, columns SCHEMA.

    `fiscal_start`: month (1-12) in which the fiscal year begins. `countries`: ISO 3166-1 alpha-2; `holidays`
    is a JSON object of country to the holiday's name, `is_holiday` tells whether it is one in the first.
    Raises NotImplementedError for a country that the library does not know.
    """
    days = pl.DataFrame({"full_date": pl.date_range(first, last, eager=True)})
    day = pl.col("full_date")
    since_start = (day.dt.month().cast(pl.Int32) - fiscal_start) % 12
    begun = (day.dt.month() >= fiscal_start) if fiscal_start > 1 else pl.lit(value=False)
    named = _named(first, last, countries)
    return (
        days.with_columns(
            date_key=day.dt.strftime("%Y%m%d").cast(pl.Int32),
            year=day.dt.year(),
            quarter=day.dt.quarter(),
            month=day.dt.month(),
            month_name=day.dt.strftime("%B"),
            day=day.dt.day(),
            iso_year=day.dt.iso_year(),
            iso_week=day.dt.week(),
            iso_weekday=day.dt.weekday(),
            day_name=day.dt.strftime("%A"),
            is_weekend=day.dt.weekday() >= 6,
            fiscal_year=day.dt.year() + begun.cast(pl.Int32),
            fiscal_quarter=since_start // 3 + 1,
            fiscal_month=since_start + 1,
        )
        .join(named, on="full_date", how="left", maintain_order="left")
        .with_columns(
            pl.col("is_holiday").fill_null(value=False),
            pl.col("holidays").fill_null("{}"),
        )
        .select(pl.col(name).cast(kind) for name, kind in SCHEMA.items())
    )


def _named(first: date, last: date, countries: Sequence[str]) -> pl.DataFrame:
    """Days that are a holiday anywhere: `full_date`, `is_holiday`, `holidays`."""
    names: dict[date, dict[str, str]] = {}
    for country in countries:
        found = holidays.country_holidays(country, years=range(first.year, last.year + 1))
        for day, name in found.items():
            names.setdefault(day, {})[country] = name
    rows = [
        (day, countries[0] in where, json.dumps(where, ensure_ascii=False, sort_keys=True))
        for day, where in names.items()
        if first <= day <= last
    ]
    schema = {"full_date": pl.Date, "is_holiday": pl.Boolean, "holidays": pl.String}
    return pl.DataFrame(rows, schema=schema, orient="row")
