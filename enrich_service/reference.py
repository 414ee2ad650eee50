"""Reads the exchange rates shipped in `data/`. Called by `bootstrap` and by tests, once."""

from __future__ import annotations

import csv
import datetime as dt
from pathlib import Path

from enrich_service.fx import FxTable

DATA = Path(__file__).parent / "data"


def load_rates(path: Path = DATA / "fx_gbp.csv") -> FxTable:
    with path.open(encoding="utf-8", newline="") as file:
        return FxTable((dt.date.fromisoformat(row.pop("date")), row) for row in csv.DictReader(file))
