"""Settings of enrich, from `TILLSTREAM_*`."""

from __future__ import annotations

from pydantic import Field

from streamkit.settings import PlatformSettings


class EnrichSettings(PlatformSettings):
    """Beside the platform's own settings."""

    service: str = "enrich"
    # Records of one transaction when behind; when idle a batch is what came within a few milliseconds.
    enrich_batch_records: int = Field(10_000, ge=1)
