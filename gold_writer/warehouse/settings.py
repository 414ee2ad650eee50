"""Settings of the warehouse writer, from `TILLSTREAM_*`."""

from __future__ import annotations

from pydantic import Field

from streamkit.settings import PlatformSettings


class WarehouseSettings(PlatformSettings):
    """Beside the platform's own settings."""

    service: str = "warehouse"
    # Rows of one transaction when behind; when idle a batch is what came within a few milliseconds.
    warehouse_batch_rows: int = Field(20_000, ge=1)
