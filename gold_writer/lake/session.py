"""The Spark session: settings with the reason for each."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Final

from gold_writer.lake.jvm import Jvm

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

_CONFIGURATION: Final = {
    "spark.app.name": "tillstream-lake",
    "spark.driver.host": "127.0.0.1",
    "spark.driver.bindAddress": "127.0.0.1",
    "spark.ui.enabled": "false",
    "spark.ui.showConsoleProgress": "false",
    "spark.sql.ui.retainedExecutions": "5",
    "spark.sql.catalogImplementation": "in-memory",
    "spark.sql.session.timeZone": "UTC",
    # Delta.
    "spark.sql.extensions": "io.delta.sql.DeltaSparkSessionExtension",
    "spark.sql.catalog.spark_catalog": "org.apache.spark.sql.delta.catalog.DeltaCatalog",
    "spark.delta.logStore.file.impl": "tillstream.fs.LinkingLogStore",
    "spark.databricks.delta.snapshotPartitions": "1",
    "spark.databricks.delta.autoCompact.enabled": "false",
    # Local files without a chmod process and a checksum companion for each.
    "spark.hadoop.fs.file.impl": "tillstream.fs.ForklessFileSystem",
    "spark.hadoop.fs.AbstractFileSystem.file.impl": "tillstream.fs.ForklessAbstractFileSystem",
    # INT96, the default, has no order: no statistics in the file.
    "spark.sql.parquet.outputTimestampType": "TIMESTAMP_MICROS",
    # Micro-batches of a few thousand rows.
    "spark.sql.shuffle.partitions": "2",
    "spark.default.parallelism": "2",
    "spark.sql.adaptive.enabled": "false",
    "spark.locality.wait": "0",
    "spark.sql.codegen.cache.maxEntries": "500",
    # Streaming. Batches to retain: two are needed to start again.
    "spark.sql.streaming.minBatchesToRetain": "10",
    "spark.sql.streaming.numRecentProgressUpdates": "20",
    "spark.sql.streaming.stopTimeout": "5s",
}


def open_session(jvm: Jvm, cores: int, scratch: Path) -> SparkSession:
    """A session in the running JVM. Takes some seconds."""
    # pyspark's own way to take a JVM that is already there.
    os.environ["PYSPARK_GATEWAY_PORT"] = str(jvm.port)
    os.environ["PYSPARK_GATEWAY_SECRET"] = jvm.secret
    from pyspark.sql import SparkSession  # noqa: PLC0415 - half a second, spent while the JVM starts

    builder = SparkSession.builder.master(f"local[{cores}]")
    for key, value in _CONFIGURATION.items():
        builder = builder.config(key, value)
    builder = builder.config("spark.local.dir", str(scratch / "spark"))
    return builder.config("spark.sql.warehouse.dir", str(scratch / "warehouse")).getOrCreate()
