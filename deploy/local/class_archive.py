"""Class-data archives (AppCDS): a JVM that maps its classes ready-made starts in two thirds of the time.

Kafka and the registry write theirs when they first end; the next start uses it. Spark's takes a run of its
own (`python -m gold_writer.lake archive`) at the first `up`. An archive that does not fit the JVM or the
class path is ignored by the JVM (`-Xshare:auto`), so a stale one costs time and nothing else.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from pathlib import Path

from deploy.local.layout import Layout

_TIMEOUT_S = 300


def options(folder: Path, layout: Layout) -> tuple[str, ...]:
    """JVM options that use the archive in `folder`, or that write one for the next start."""
    if (archive := folder / "classes.jsa").exists():
        return ("-Xshare:auto", f"-XX:SharedArchiveFile={archive}")
    return (f"-XX:ArchiveClassesAtExit={_written(folder, layout)}", "-Xlog:cds=off", "-Xlog:cds+dynamic=off")


def adopt(layout: Layout) -> None:
    """Take what this home's JVMs wrote when they ended. Only then, so that nobody maps a half-written one."""
    for folder in (layout.kafka_jars, layout.registry_app):
        if (written := _written(folder, layout)).exists():
            written.replace(folder / "classes.jsa")


def _written(folder: Path, layout: Layout) -> Path:
    return folder / f"classes-{layout.home_id()}.jsa"


def spark_is_made(layout: Layout) -> bool:
    """Whether Spark's archive is there and of this environment, whose folder is part of its class path."""
    try:
        return _made_for(layout).read_text() == sys.prefix and _spark(layout).exists()
    except OSError:
        return False


def make_spark(layout: Layout, env: Mapping[str, str], given_up: threading.Event) -> bool:
    """Run Spark as far as its warm-up, with Kafka and the registry up; whether that gave an archive.

    `env`: the lake's own environment. Ends early when `given_up` is set.
    """
    scratch = layout.run / "archive"
    shutil.rmtree(scratch, ignore_errors=True)
    own = {"TILLSTREAM_STATE": str(scratch / "state"), "TILLSTREAM_LAKE": str(scratch / "lake")}
    with (layout.logs / "archive.log").open("w") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "gold_writer.lake", "archive"],
            env={**env, **own},
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
        )
        deadline = time.monotonic() + _TIMEOUT_S
        while process.poll() is None and time.monotonic() < deadline and not given_up.wait(0.2):
            pass
        if process.poll() is None:
            process.kill()
        code = process.wait()
    shutil.rmtree(scratch, ignore_errors=True)
    if code != 0 or not _spark(layout).exists():
        return False
    _made_for(layout).write_text(sys.prefix)
    return True


def _spark(layout: Layout) -> Path:
    return layout.spark_jars / "classes.jsa"


def _made_for(layout: Layout) -> Path:
    return layout.spark_jars / "classes.jsa.made-for"
