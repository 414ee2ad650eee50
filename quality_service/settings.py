"""What the quality service is told through its environment."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field

from streamkit.settings import PlatformSettings


class QualitySettings(PlatformSettings):
    service: str = "quality"
    group: str = "tillstream.quality"
    raw_topic: str = "sales.raw.v1"
    validated_topic: str = "sales.validated.v1"
    quarantine_topic: str = "sales.quarantine.v1"
    decisions_topic: str = "sales.decisions.v1"
    # Address space, not disk: the file grows with what is in it.
    id_store_max_bytes: int = Field(64 << 30, ge=1 << 20)
    max_batch_records: int = Field(10_000, ge=1)

    # How long after a change of contract or service the guard watches.
    guard_window_s: float = Field(600.0, ge=0)

    @property
    def id_store(self) -> Path:
        return self.state / "ids"
