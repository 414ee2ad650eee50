"""What the maintenance process is told through its environment."""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator, Field

from streamkit.settings import PlatformSettings

_SHORTEST_RETENTION, _LONGEST_RETENTION = 2 * 365, 7 * 366


def _retention(days: int) -> int:
    if days and not _SHORTEST_RETENTION <= days <= _LONGEST_RETENTION:
        raise ValueError(f"0 (for ever), or {_SHORTEST_RETENTION} to {_LONGEST_RETENTION} days")
    return days


Seconds = Annotated[float, Field(gt=0)]
RetentionDays = Annotated[int, AfterValidator(_retention)]


class MaintenanceSettings(PlatformSettings):
    """Intervals are from the end of one run to the start of the next."""

    service: str = "maintenance"
    maintenance_nice: int = Field(10, ge=0, le=19)
    """Added to the process's niceness: the hot path goes first."""

    compact_every_s: Seconds = 300
    compact_target_mb: int = Field(32, ge=1)
    """Small enough that files of the last minutes are not rewritten with gigabytes of older ones."""
    compact_min_files: int = Field(16, ge=2)
    """Small files in one partition of a table before it is compacted."""

    z_order_every_s: Seconds = 24 * 3600
    z_order_target_mb: int = Field(128, ge=1)
    z_order_most_mb: int = Field(4096, ge=1)
    """A larger table is only compacted: Z-order rewrites all of it."""
    z_order_memory_mb: int = Field(512, ge=64)
    """What sorting may take before it spills to disk."""

    vacuum_every_s: Seconds = 3600
    vacuum_after_hours: int = Field(24, ge=1)
    """How long files that were replaced stay for readers of older versions. A reader that holds one version
    for longer than that fails."""
    vacuum_orphans_every_s: Seconds = 24 * 3600
    """Files of writes that were never committed: needs a listing of the whole table."""

    clean_logs_every_s: Seconds = 600

    streams_every_s: Seconds = 3
    change_topics: str = "cdc.shop."
    """Prefix of the topics of captured tables."""
    revisions_every_s: Seconds = 60
    derived_every_s: Seconds = 300
    """dim_invoice and agg_* of the lake; nothing is done while the facts are the same."""
    calendar_every_s: Seconds = 24 * 3600
    fiscal_year_starts: int = Field(4, ge=1, le=12)
    """Month in which the fiscal year begins."""
    holiday_countries: tuple[str, ...] = ("GB", "IE", "DE", "FR", "NL", "ES", "BE", "CH", "PT", "AU")
    """ISO 3166-1 alpha-2; the first is the home country, whose holidays set `is_holiday`. As JSON."""

    partitions_every_s: Seconds = 24 * 3600
    partition_months_ahead: int = Field(3, ge=1, le=24)
    views_every_s: Seconds = 300
    """Materialised views; nothing is done while the warehouse has read nothing new."""
    warehouse_consumer: str = "tillstream.warehouse"
    """The warehouse writer's name in ops.stream_offsets."""
    check_keys_every_s: Seconds = 6 * 3600
    check_keys_grace_s: int = Field(300, ge=0)
    """Facts younger than this may still wait for the dimension row that they point at."""
    analyze_every_s: Seconds = 24 * 3600

    retention_every_s: Seconds = 24 * 3600
    retention_days_bronze: RetentionDays = 7 * 365
    retention_days_silver: RetentionDays = 7 * 365
    retention_days_gold: RetentionDays = 0
    """0: for ever. A fact that expires is missing in the ledger's eyes for as long as its topic has it."""
