"""Country names as sources write them, resolved to ISO 3166-1 alpha-2 codes and UN M49 regions. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import polars as pl

FIELDS = ("alpha_2", "alpha_3", "region", "name", "aliases")


class CountryTable:
    """Name -> (code, region).

    A name is matched without regard to case and surrounding or repeated spaces; the ISO codes of two and
    three letters are names too. Something that is no country of ISO 3166 (Channel Islands, European
    Community) may have a region and no code; what is not known has neither.
    """

    def __init__(self, rows: Iterable[Mapping[str, str]]) -> None:
        """`rows` have the columns `FIELDS`; aliases are separated by `|`.

        Raises `ValueError` where two rows claim one name.
        """
        codes: dict[str, str | None] = {}
        regions: dict[str, str | None] = {}
        for row in rows:
            names = [row["name"], row["alpha_2"], row["alpha_3"], *row["aliases"].split("|")]
            for name in {match_name(n) for n in names if n}:
                if name in codes:
                    raise ValueError(f"two countries are named {name!r}")
                codes[name] = row["alpha_2"] or None
                regions[name] = row["region"] or None
        self._table = pl.DataFrame(
            {"name": list(codes), "country_code": list(codes.values()), "region": list(regions.values())},
            schema={"name": pl.String, "country_code": pl.String, "region": pl.String},
        )

    def add_to(self, frame: pl.DataFrame) -> pl.DataFrame:
        """The frame with `country_code` and `region` (String, nullable), from its column `country`."""
        # Resolved once per distinct name: a batch has thousands of rows and a handful of countries.
        names = frame.select(pl.col("country").unique()).with_columns(name=match_name_expr("country"))
        resolved = names.join(self._table, on="name", how="left").drop("name")
        return frame.join(resolved, on="country", how="left", maintain_order="left")


def match_name(name: str) -> str:
    """What two spellings of one country have in common."""
    return " ".join(name.split()).upper()


def match_name_expr(column: str) -> pl.Expr:
    """Twin of `match_name` over a column."""
    return pl.col(column).str.strip_chars().str.replace_all(r"\s+", " ").str.to_uppercase()
