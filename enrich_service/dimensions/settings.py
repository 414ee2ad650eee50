"""Settings of the dimension builder, from `TILLSTREAM_*`."""

from __future__ import annotations

from pydantic import Field

from streamkit.settings import PlatformSettings


class DimensionsSettings(PlatformSettings):
    """Beside the platform's own settings. Group and prefix of all topics differ only in tests."""

    service: str = "dimensions"
    dimensions_group: str = "tillstream.dimensions"
    dimensions_topic_prefix: str = ""
    # Records of one transaction when behind.
    dimensions_batch_records: int = Field(10_000, ge=1)
    # How long a batch gathers after its first record. A busy shop sells a thousand lines a second that name
    # nobody new, and each batch is a transaction; a change may take half a second.
    dimensions_linger_s: float = Field(0.05, ge=0)
    # Sales whose history changed are corrected: at least this long after the last correction, and once a
    # change is this old, so that the enricher knows of it too.
    corrections_every_s: float = Field(60.0, gt=0)
    corrections_settle_s: float = Field(10.0, ge=0)
