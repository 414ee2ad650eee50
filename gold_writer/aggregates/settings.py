"""Settings of the aggregates process, from `TILLSTREAM_*`."""

from __future__ import annotations

from pydantic import Field

from streamkit.settings import PlatformSettings


class AggregatesSettings(PlatformSettings):
    """Beside the platform's own settings. Topic and group names differ only in tests."""

    service: str = "aggregates"
    enriched_topic: str = "sales.enriched.v1"
    aggregates_topic: str = "sales.aggregates.v1"
    aggregates_group: str = "tillstream.aggregates"
    # The warehouse writer's name in ops.stream_offsets, for the check.
    warehouse_consumer: str = "tillstream.warehouse"
    # Records of one transaction when behind; when idle a batch is what came within a few milliseconds.
    aggregates_batch_records: int = Field(10_000, ge=1)
    # How long a batch gathers after its first record. The feed may take half a second; a batch of 30 costs
    # little more than one of 10.
    aggregates_linger_s: float = Field(0.02, ge=0)
