"""What the peers need, in the tools folder: a Python environment of their own, and Kafka Streams' jars."""

from __future__ import annotations

import hashlib
import os
import platform
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from deploy.local.bootstrap import Environment, install
from deploy.local.errors import CommandError
from deploy.local.jars import sha256
from deploy.local.java import Java
from deploy.local.layout import Layout
from deploy.local.toolchain import install_lock, maven_advice
from deploy.local.versions import VERSIONS

BENCH: Final = Path(__file__).parents[1]
LOCK: Final = BENCH / "requirements.lock"
STREAMS: Final = BENCH / "peers" / "kafka_streams"
_STAMP: Final = ".complete"


def peers_python(layout: Layout) -> Path:
    """The interpreter of the peers' environment, installed if it is not there."""
    version = f"{sys.version_info[0]}.{sys.version_info[1]} {platform.machine()}"
    key = hashlib.sha256(LOCK.read_bytes() + version.encode()).hexdigest()[:12]
    environment = Environment(layout.tools / f"bench-python-{key}", LOCK)
    if not environment.is_complete():
        install(environment, layout.tools)
    return environment.python


@dataclass(frozen=True, slots=True)
class StreamsProgram:
    """Kafka Streams' peer, compiled."""

    folder: Path

    def command(self, java: Java) -> list[str]:
        # ParallelGC has the highest throughput of the JVM's collectors; pauses do not matter here.
        options = ["-Xms1g", "-Xmx2g", "-XX:+UseParallelGC"]
        return [
            str(java.java),
            *options,
            "-cp",
            f"{self.folder}/*:{self.folder}/classes",
            "KafkaStreamsStage",
        ]


def streams_program(layout: Layout, java: Java) -> StreamsProgram:
    """Fetched by Maven, checked against jars.sha256 and compiled, once for each state of the sources."""
    folder = layout.tools / f"bench-streams-{_fingerprint()}"
    if (folder / _STAMP).exists():
        return StreamsProgram(folder)
    with install_lock(layout.tools):
        partial = folder.with_name(f"{folder.name}.partial")
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)
        _fetch(partial, java)
        _verify(partial)
        _compile(partial, java)
        (partial / _STAMP).touch()
        shutil.rmtree(folder, ignore_errors=True)
        partial.rename(folder)
    return StreamsProgram(folder)


def _fingerprint() -> str:
    digest = hashlib.sha256(VERSIONS.kafka.encode())
    for path in sorted(STREAMS.iterdir()):
        if path.is_file():
            digest.update(path.read_bytes())
    return digest.hexdigest()[:12]


def _fetch(folder: Path, java: Java) -> None:
    if shutil.which("mvn") is None:
        raise CommandError(maven_advice())
    plugin = f"org.apache.maven.plugins:maven-dependency-plugin:{VERSIONS.maven_dependency_plugin}"
    command = ["mvn", "--batch-mode", "--no-transfer-progress", "-f", str(STREAMS / "pom.xml")]
    command += [f"{plugin}:copy-dependencies", "-DincludeScope=runtime", f"-DoutputDirectory={folder}"]
    _run([*command, f"-Dkafka.version={VERSIONS.kafka}"], java)


def _verify(folder: Path) -> None:
    """Raise at the first file that is not what jars.sha256 says."""
    lines = (STREAMS / "jars.sha256").read_text().splitlines()
    expected = {name: value for value, _, name in (line.partition("  ") for line in lines)}
    found = {path.name: sha256(path) for path in folder.glob("*.jar")}
    for name in sorted(expected.keys() | found.keys()):
        if expected.get(name) != found.get(name):
            raise CommandError(f"Kafka Streams' jars: {name} is not as jars.sha256 says")


def _compile(folder: Path, java: Java) -> None:
    sources = sorted(map(str, STREAMS.glob("*.java")))
    release = str(VERSIONS.java_release)
    target = ["-d", str(folder / "classes"), "-cp", f"{folder}/*"]
    _run([str(java.javac), "--release", release, "-nowarn", *target, *sources], java)


def _run(command: list[str], java: Java) -> None:
    env = {**os.environ, "JAVA_HOME": str(java.home)}
    done = subprocess.run(command, env=env, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        said = (done.stdout + done.stderr).strip().splitlines()
        errors = [line for line in said if "ERROR" in line or "error:" in line]
        raise CommandError(f"{Path(command[0]).name} failed: {(errors or said or ['no output'])[0][:300]}")
