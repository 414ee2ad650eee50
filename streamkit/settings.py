"""What every process of the platform is told through its environment."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict


class PlatformSettings(BaseSettings):
    """Read from `TILLSTREAM_*`; a service subclasses it and adds its own fields.

    Constructed in a service's `bootstrap.py` only: nothing else reads the environment.
    """

    model_config = SettingsConfigDict(env_prefix="TILLSTREAM_", frozen=True, extra="ignore")

    kafka: str = "127.0.0.1:9092"
    # The Kafka clients: native where the library of `native/` is there, or one of the two and nothing else.
    engine: Literal["auto", "native", "python"] = "auto"
    registry: str = "http://127.0.0.1:8081/apis/ccompat/v7"
    # Out of the repr, because a DSN may carry a password and settings end up in logs.
    postgres: str = Field("postgresql://postgres@127.0.0.1:5432/postgres", repr=False)
    redis: str = Field("redis://127.0.0.1:6379", repr=False)
    lake: Path = Path(".tillstream/lake")
    state: Path = Path(".tillstream/state")
    http_host: str = "127.0.0.1"
    http_port: int = Field(8080, ge=0, le=65535)
    service: str = "tillstream"
    instance: str = Field("0", pattern=r"^[A-Za-z0-9_-]+$")

    @property
    def slot(self) -> str:
        """Stable name of this instance slot: its transactional id and its static group membership."""
        return f"tillstream.{self.service}.{self.instance}"
