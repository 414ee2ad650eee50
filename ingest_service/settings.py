"""What this service is told through its environment, beside what every process is told."""

from __future__ import annotations

from pydantic import Field

from streamkit.settings import PlatformSettings

MIB = 1024 * 1024


class IngestSettings(PlatformSettings):
    """Each field is `TILLSTREAM_` and its name in capitals."""

    service: str = "ingest"
    http_port: int = Field(17000, ge=0, le=65535)

    ingest_max_body: int = Field(32 * MIB, ge=1, description="bytes of one request body")
    ingest_max_file: int = Field(4096 * MIB, ge=1, description="bytes of one file")
    ingest_max_items: int = Field(200_000, ge=1, description="items of one request")
    ingest_max_item: int = Field(1 * MIB, ge=1, le=8 * MIB, description="bytes of one item")
    ingest_max_in_flight: int = Field(96 * MIB, ge=1, description="bytes of bodies held at one time")
    ingest_max_requests: int = Field(64, ge=1, description="requests worked on at one time")
    ingest_workers: int = Field(8, ge=1, description="threads that parse and wait for the broker")
    ingest_produce_timeout: float = Field(15.0, gt=0, description="seconds until a request gets 503")
    ingest_rate: int = Field(600, ge=1, description="requests a second and client")
    ingest_currency: str = Field("GBP", description="of files that do not say")
    ingest_file_source: str = Field("online-retail", description="of files that do not say")
    ingest_keep_jobs: int = Field(1000, ge=1, description="finished jobs that can still be asked about")
