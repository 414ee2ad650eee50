"""Amounts in GBP at dated rates, in integers from end to end. Pure.

A rate is the value of one unit of a currency in GBP, as an integer of 10**-12 GBP (pico): with fewer
places, currencies of small units (one IDR is 0.00004 GBP) would lose digits that their quotes have.
Products of micros and picos go beyond 64 bits, so they are computed in Int128.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable, Mapping
from decimal import ROUND_HALF_EVEN, Decimal

import polars as pl

HOME = "GBP"
PICO = 10**12


class FxTable:
    """Rates by currency and day.

    The rate of a day is the one of the latest row on or before it. A row where a currency has no quote
    ends it: from that day on it has no rate (DEM after the euro, RUB since 2022). After the last row the
    last rates stay in use: an old rate is better than none, and `newest` tells how old it is.
    """

    def __init__(self, rows: Iterable[tuple[dt.date, Mapping[str, str]]]) -> None:
        """`rows`: a day, and per currency its rate as a decimal string or "" for none.

        Rates are rounded half-even to `PICO`. Raises `ValueError` where there are no rows or a rate is
        not positive.
        """
        days: list[dt.date] = []
        currencies: list[str] = []
        rates: list[int | None] = []
        for day, quotes in rows:
            for currency, text in quotes.items():
                days.append(day)
                currencies.append(currency)
                rates.append(parse_rate(text) if text else None)
        if not days:
            raise ValueError("no exchange rates")
        self.newest = max(days)
        self._table = pl.DataFrame(
            {"day": days, "currency": currencies, "rate_pico": rates},
            schema={"day": pl.Date, "currency": pl.String, "rate_pico": pl.Int64},
        ).sort("day")

    def add_to(self, frame: pl.DataFrame) -> pl.DataFrame:
        """The frame with `amount_gbp_micros` (Int64, nullable) from its columns `currency`, `invoice_ts`
        and `total_amount_micros` (Int64). Row order is kept.

        GBP is passed through whatever its day. Null where there is no rate, or the product is beyond
        64 bits.
        """
        if frame["currency"].eq(HOME).all():
            return frame.with_columns(amount_gbp_micros=pl.col("total_amount_micros"))
        wanted = frame.select("currency", day=pl.col("invoice_ts").dt.date())
        # As-of once per distinct currency and day, then an ordinary join.
        dated = (
            wanted.unique()
            .sort("day")
            .join_asof(self._table, on="day", by="currency", strategy="backward", check_sortedness=False)
        )
        rate = wanted.join(dated, on=["currency", "day"], how="left", maintain_order="left")["rate_pico"]
        converted = multiply_half_even(pl.col("total_amount_micros"), pl.lit(rate))
        return frame.with_columns(
            amount_gbp_micros=pl.when(pl.col("currency") == HOME)
            .then(pl.col("total_amount_micros"))
            .otherwise(converted)
        )


def parse_rate(text: str) -> int:
    """A positive decimal string as an integer of 10**-12, rounded half-even."""
    rate = int((Decimal(text) * PICO).to_integral_value(ROUND_HALF_EVEN))
    if rate <= 0:
        raise ValueError(f"an exchange rate must be positive: {text!r}")
    return rate


def multiply_half_even(amount_micros: pl.Expr, rate_pico: pl.Expr) -> pl.Expr:
    """amount * rate in micros, rounded half to even (as banks do), null where it leaves Int64."""
    product = amount_micros.cast(pl.Int128) * rate_pico.cast(pl.Int128)
    quotient = product // PICO  # rounds down, so the remainder is 0 <= r < PICO for returns as well
    remainder = product - quotient * PICO
    up = (remainder > PICO // 2) | ((remainder == PICO // 2) & (quotient % 2 != 0))
    return (quotient + up.cast(pl.Int128)).cast(pl.Int64, strict=False)
