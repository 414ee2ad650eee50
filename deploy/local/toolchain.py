"""Bring what the stack needs and Python packages do not hold: a JDK, Maven, the jars."""

from __future__ import annotations

import fcntl
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from deploy.local import jars, machine
from deploy.local import java as javas
from deploy.local.errors import CommandError
from deploy.local.java import Java
from deploy.local.layout import Layout
from deploy.local.progress import Steps
from deploy.local.versions import VERSIONS

# Jars in Maven's repository and beside it in the tools folder, measured and rounded up.
_JARS_MIB = 1200


def ensure(layout: Layout, steps: Steps) -> Java:
    """Everything installed and checked; quick where it already is."""
    log = layout.tools / "install.log"
    layout.tools.mkdir(parents=True, exist_ok=True)
    java = _ensure_java(steps, log)
    if all(jars.is_installed(component, layout) for component in jars.components()):
        return java
    with install_lock(layout.tools, steps.note):
        missing = [c for c in jars.components() if not jars.is_installed(c, layout)]
        if missing:
            machine.require_free_disk(layout.tools, _JARS_MIB, "the servers' jars")
            _ensure_maven(steps, log)
        for component in missing:
            with steps.step(f"fetch and check {component.title}", announce=True):
                jars.install(component, layout, java, log)
    return java


@contextmanager
def install_lock(tools: Path, note: object = None) -> Iterator[None]:
    """One installation at a time in a tools folder, whoever starts it."""
    with (tools / ".lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if callable(note):
                note("another command is installing; waiting for it")
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


def java_advice() -> str:
    return f"JDK {VERSIONS.java_release} is missing: sudo apt-get install {' '.join(VERSIONS.java_packages)}"


def maven_advice() -> str:
    return f"Maven is missing: sudo apt-get install {' '.join(VERSIONS.maven_packages)}"


def _ensure_java(steps: Steps, log: Path) -> Java:
    if java := javas.find():
        return java
    if not machine.can_install():
        raise CommandError(f"{java_advice()}, or set JAVA_HOME to one")
    with steps.step(f"install JDK {VERSIONS.java_release}", announce=True):
        machine.apt_install(VERSIONS.java_packages, log)
    if java := javas.find():
        return java
    raise CommandError(f"{java_advice()} (apt-get installed it, but there is no javac under /usr/lib/jvm)")


def _ensure_maven(steps: Steps, log: Path) -> None:
    if shutil.which("mvn"):
        return
    if not machine.can_install():
        raise CommandError(maven_advice())
    with steps.step("install Maven", announce=True):
        machine.apt_install(VERSIONS.maven_packages, log)
