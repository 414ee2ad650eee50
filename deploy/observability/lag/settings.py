"""What the lag exporter is told through its environment (`TILLSTREAM_*`)."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, Field

from streamkit.settings import PlatformSettings


def _expression(text: str) -> str:
    try:
        re.compile(text)
    except re.error as error:
        raise ValueError(f"no regular expression: {error}") from error
    return text


Expression = Annotated[str, AfterValidator(_expression)]


class LagSettings(PlatformSettings):
    """Adds to the platform's settings what only this process needs. Times are in seconds."""

    service: str = "lag"
    ingest_url: str = "http://127.0.0.1:17000"

    lag_cluster_name: str = "tillstream"
    """The label `cluster_name`."""
    lag_groups: Expression = ".*"
    lag_topics: Expression = ".*"
    """Regular expressions of the whole names of what is measured."""
    lag_interval: float = Field(15.0, gt=0)
    """Measured at least so often; whoever asks gets a measurement that is at most `lag_max_age` old."""
    lag_max_age: float = Field(1.0, ge=0)
    lag_read_records: int = Field(2_000, ge=1)
    """Of a partition, in one measurement; what lies further behind is counted by its offsets until then."""
    heartbeat_seconds: float = Field(60.0, ge=0)
    """A heartbeat is sent so often, the first after that time; 0 sends none."""
    lag_checkpoints: Path | None = None
    """The lake's folder of Spark checkpoints; without it the lake has no lag here."""
