"""What the query service is told through its environment (`TILLSTREAM_*`)."""

from __future__ import annotations

from pydantic import Field

from streamkit.settings import PlatformSettings


class QuerySettings(PlatformSettings):
    """Adds to the platform's settings what only this service needs. Times are in seconds."""

    service: str = "query"
    ledger_url: str | None = None
    lag_url: str | None = None
    """Base URL of the lag exporter; without it the stages' lag is what they say themselves."""
    ingest_url: str | None = None
    """The door through which quarantined items are replayed."""
    stages: dict[str, str] = Field(default_factory=dict)
    """Base URLs of the stages by name, for `pipeline`; JSON in the environment."""

    master_keys: str | None = Field(None, repr=False)
    """Of personal data (schemas/personal.py): 64 hexadecimal digits each, comma-separated."""
    index_key: str | None = Field(None, repr=False)
    """Of the blind index of e-mail addresses; 64 hexadecimal digits."""

    query_pool_max: int = Field(8, ge=1)
    query_connect_timeout: float = Field(2.0, gt=0)
    query_statement_timeout: float = Field(10.0, gt=0)
    query_stage_timeout: float = Field(0.8, gt=0)
    query_ledger_timeout: float = Field(15.0, gt=0)
    query_max_body_bytes: int = Field(262_144, gt=0)
    query_max_series_points: int = Field(50_000, gt=0)
    query_max_invoice_lines: int = Field(10_000, gt=0)

    query_max_subscriptions: int = Field(1_000, gt=0)
    query_live_interval: float = Field(0.1, gt=0)
    """A client of the `kpis` subscription gets a message at most this often."""
    query_live_heartbeat: float = Field(10.0, gt=1)
    """The same figures are sent again after so long without a change."""
    query_live_buffer: int = Field(1_000, gt=0)
    """Sales that may wait for one client of the `sales` subscription."""
    query_enriched_topic: str = "sales.enriched.v1"
    query_aggregates_topic: str = "sales.aggregates.v1"
