"""What `deploy.connect` is told through its environment (`TILLSTREAM_*`)."""

from __future__ import annotations

from pydantic import Field

from streamkit.settings import PlatformSettings


class ConnectorsSettings(PlatformSettings):
    """Times are in seconds."""

    service: str = "connectors"
    connect_url: str = "http://127.0.0.1:8083"
    cdc_password: str = Field(repr=False)
    """Of the database role that the connectors log in with; the role is made with it."""
    connectors_poll: float = Field(5.0, gt=0)
    """How often a quiet worker is looked at; one that is not in order yet, ten times as often."""
    connectors_first_backoff: float = Field(1.0, gt=0)
    connectors_max_backoff: float = Field(60.0, gt=0)
    connectors_settled: float = Field(60.0, gt=0)
    """A task that ran for so long is no longer held to have failed before."""
