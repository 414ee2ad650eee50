"""The reference data that the stage joins: plain JSON, so that a program in any language reads the same."""

from __future__ import annotations

import json
import zlib
from pathlib import Path
from typing import Any, Final

import polars as pl

from bench.transform.dataset import NOW_MS, raw_schema, real_lines
from schemas import reference

OUT_SCHEMA: Final = Path(__file__).with_name("out.avsc")
OUT_SCHEMA_ID: Final = 2


def build() -> dict[str, Any]:
    """Everything but the records that a peer must know.

    `countries`: name key -> [code or null, region or null]. `products`: stock code -> [category, supplier],
    for most codes of the sample; the others are not known, as in life.
    """
    countries = {key: [code, region] for key, code, region in reference.countries().iter_rows()}
    codes = real_lines()["stock_code"].unique().sort().to_list()
    return {
        "now_ms": NOW_MS,
        "raw_schema": json.loads(raw_schema()),
        "out_schema": json.loads(OUT_SCHEMA.read_text()),
        "out_schema_id": OUT_SCHEMA_ID,
        "currencies": sorted(reference.currencies()),
        "countries": countries,
        "products": {code: _product(code) for code in codes if zlib.crc32(code.encode()) % 20},
    }


def products_frame(document: dict[str, Any]) -> pl.DataFrame:
    rows = [(code, *place) for code, place in document["products"].items()]
    schema = {"stock_code": pl.String, "category": pl.String, "supplier": pl.String}
    return pl.DataFrame(rows, schema=schema, orient="row")


def countries_frame(document: dict[str, Any]) -> pl.DataFrame:
    rows = [(key, *place) for key, place in document["countries"].items()]
    schema = {"name_key": pl.String, "country_code": pl.String, "region": pl.String}
    return pl.DataFrame(rows, schema=schema, orient="row")


def _product(code: str) -> list[str]:
    number = zlib.crc32(code.encode())
    return [f"category {number % 40}", f"supplier {number % 200}"]
