"""Makes `fx_gbp.csv` from the European Central Bank's history of euro reference rates.

    python enrich_service/data/build_fx.py eurofxref-hist.zip > enrich_service/data/fx_gbp.csv

One row a week, dated by its last day with quotes; each cell is the currency's last quote of that week,
turned into GBP per unit with eight significant digits. An empty cell: not quoted in that week.
"""

from __future__ import annotations

import csv
import datetime as dt
import io
import sys
import zipfile
from collections.abc import Iterator
from decimal import ROUND_HALF_EVEN, Context, Decimal
from pathlib import Path

FIRST_DAY = dt.date(1999, 12, 20)  # a sale of 2000-01-01, the earliest there is, needs a rate before it
_CONTEXT = Context(prec=8, rounding=ROUND_HALF_EVEN)


def read_euro_rates(archive: Path) -> Iterator[tuple[dt.date, dict[str, Decimal]]]:
    """Units of each currency per euro, by day, in the order of the file (newest first)."""
    with zipfile.ZipFile(archive) as files:
        text = files.read(files.namelist()[0]).decode("utf-8")
    for row in csv.DictReader(io.StringIO(text)):
        day = dt.date.fromisoformat(row.pop("Date"))
        yield day, {c: Decimal(v) for c, v in row.items() if c and v not in {"", "N/A", None}}


def weekly_gbp_rates(days: list[tuple[dt.date, dict[str, Decimal]]]) -> dict[dt.date, dict[str, Decimal]]:
    """GBP per unit of each currency, by the last quoted day of each ISO week."""
    weeks: dict[tuple[int, int], tuple[dt.date, dict[str, Decimal]]] = {}
    for day, euro in sorted(days, key=lambda item: item[0]):
        if day < FIRST_DAY or "GBP" not in euro:
            continue
        rates = {c: _CONTEXT.divide(euro["GBP"], v) for c, v in euro.items() if c != "GBP"}
        rates["EUR"] = euro["GBP"]
        iso = day.isocalendar()
        _, earlier = weeks.get((iso.year, iso.week), (day, {}))
        weeks[(iso.year, iso.week)] = (day, earlier | rates)
    return dict(weeks.values())


def main(archive: str) -> None:
    weeks = weekly_gbp_rates(list(read_euro_rates(Path(archive))))
    currencies = sorted(set().union(*weeks.values()))
    out = csv.writer(sys.stdout, lineterminator="\n")
    out.writerow(["date", *currencies])
    for day, rates in weeks.items():
        out.writerow([day.isoformat(), *(f"{rates[c]:f}" if c in rates else "" for c in currencies)])


if __name__ == "__main__":
    main(sys.argv[1])
