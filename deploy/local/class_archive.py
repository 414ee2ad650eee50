"""Class-data archives (AppCDS): Kafka, the registry and Connect start with half of the processor time.

Each JVM writes its archive when it first ends, and the next start maps it. One that does not fit the JVM or
the class path is ignored (`-Xshare:auto`), so a stale archive costs time and nothing else. Spark gets none:
making it takes longer than several starts, and saves a tenth of one.
"""

from __future__ import annotations

import os
from pathlib import Path

from deploy.local.layout import Layout


def options(folder: Path, layout: Layout, name: str = "classes") -> tuple[str, ...]:
    """JVM options that use the archive of that name in `folder`, or that write one for the next start."""
    if (archive := folder / f"{name}.jsa").exists():
        return ("-Xshare:auto", f"-XX:SharedArchiveFile={archive}")
    if not os.access(folder, os.W_OK):
        return ()
    return (
        f"-XX:ArchiveClassesAtExit={_written(folder, layout, name)}",
        "-Xlog:cds=off",
        "-Xlog:cds+dynamic=off",
    )


def adopt(layout: Layout) -> None:
    """Take what this home's JVMs wrote when they ended. Only then, so that nobody maps a half-written one."""
    archives = (
        (layout.kafka_jars, "classes"),
        (layout.kafka_jars, "connect"),
        (layout.registry_app, "classes"),
    )
    for folder, name in archives:
        if (written := _written(folder, layout, name)).exists():
            written.replace(folder / f"{name}.jsa")


def _written(folder: Path, layout: Layout, name: str) -> Path:
    return folder / f"{name}-{layout.home_id()}.jsa"
