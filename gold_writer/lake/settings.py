"""What the lake writer is told through its environment."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field

from streamkit.settings import PlatformSettings


class LakeSettings(PlatformSettings):
    """`TILLSTREAM_LAKE` is the lake's folder, `TILLSTREAM_STATE` that of checkpoints and scratch data."""

    service: str = "lake"

    spark_jars: Path = Path(".tillstream/tools/spark-jars")
    """Folder of the jars of deploy/local/jars, tillstream-fs.jar among them."""
    java_home: Path | None = Field(None, validation_alias="JAVA_HOME")
    heap: str = Field("1g", pattern=r"^[1-9][0-9]*[mg]$")
    cores: int = Field(2, ge=1)
    jvm_options: str = ""
    """More options for the JVM, separated by spaces; the last of two that disagree wins."""

    raw_topic: str = "sales.raw.v1"
    enriched_topic: str = "sales.enriched.v1"
    quarantine_topic: str = "sales.quarantine.v1"
    warmup_topic: str = "tillstream.lake.warmup"

    fact_trigger_ms: int = Field(1000, ge=0)
    slow_trigger_ms: int = Field(3000, ge=0)
    max_offsets_per_trigger: int = Field(100_000, ge=1)
    """Bounds a micro-batch when the lake is behind: about 50 MB of records."""

    stop_seconds: float = Field(8.0, gt=0)
    """How long a stop may wait for running micro-batches."""

    @property
    def java(self) -> str:
        return str(self.java_home / "bin" / "java") if self.java_home else "java"

    @property
    def checkpoints(self) -> Path:
        return self.state / "checkpoints"

    @property
    def scratch(self) -> Path:
        return self.state / "scratch"

    @property
    def class_archive(self) -> Path:
        """The JVM's class archive, made by `python -m gold_writer.lake archive` for these very jars."""
        return self.spark_jars / "classes.jsa"
