"""Every metric of enrich beyond those that all stages have."""

from __future__ import annotations

import datetime as dt

import polars as pl
from prometheus_client import CollectorRegistry, Counter, Gauge


class EnrichMetrics:
    def __init__(self, registry: CollectorRegistry, newest_rate: dt.date) -> None:
        # Rows that leave with something missing. Label `what`: country_code or amount_gbp. A batch that is
        # aborted and processed again counts again.
        self.missing = Counter(
            "tillstream_enrich_missing", "Rows enriched without a value.", ["what"], registry=registry
        )
        # The last day with exchange rates, in seconds since 1970 UTC: an alert compares it with now.
        self.newest_rate = Gauge(
            "tillstream_enrich_newest_rate_seconds", "Day of the newest exchange rates.", registry=registry
        )
        midnight = dt.datetime.combine(newest_rate, dt.time(), dt.UTC)
        self.newest_rate.set(midnight.timestamp())

    def observe(self, enriched: pl.DataFrame) -> None:
        self.missing.labels("country_code").inc(enriched["country_code"].null_count())
        self.missing.labels("amount_gbp").inc(enriched["amount_gbp_micros"].null_count())
