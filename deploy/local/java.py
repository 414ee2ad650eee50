"""Find a JDK of the pinned release. Other releases are refused: the servers have this one in common."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from deploy.local.versions import VERSIONS

_SYSTEM = Path("/usr/lib/jvm")


@dataclass(frozen=True)
class Java:
    home: Path

    @property
    def java(self) -> Path:
        return self.home / "bin" / "java"

    @property
    def javac(self) -> Path:
        return self.home / "bin" / "javac"

    @property
    def jar(self) -> Path:
        return self.home / "bin" / "jar"


def find(environ: Mapping[str, str] | None = None, system: Path = _SYSTEM) -> Java | None:
    """The first full JDK of the right release: JAVA_HOME, then /usr/lib/jvm, then `java` on the path."""
    for home in _candidates(os.environ if environ is None else environ, system):
        if release(home) == VERSIONS.java_release and (home / "bin" / "javac").exists():
            return Java(home)
    return None


def release(home: Path) -> int | None:
    """Major release of the Java in `home`: from its `release` file, else by asking it. None: no Java."""
    try:
        text = (home / "release").read_text()
    except OSError:
        text = ""
    if match := re.search(r'^JAVA_VERSION="(?:1\.)?(\d+)', text, re.MULTILINE):
        return int(match[1])
    java = home / "bin" / "java"
    if not java.exists():
        return None
    done = subprocess.run([str(java), "-version"], capture_output=True, text=True, check=False)
    match = re.search(r'version "(?:1\.)?(\d+)', done.stderr + done.stdout)
    return int(match[1]) if match else None


def _candidates(environ: Mapping[str, str], system: Path) -> Iterator[Path]:
    if java_home := environ.get("JAVA_HOME"):
        yield Path(java_home)
    if system.is_dir():
        # The pinned release's own folder first, so that a machine with many asks few.
        wanted = str(VERSIONS.java_release)
        yield from sorted(
            (p for p in system.iterdir() if p.is_dir()), key=lambda p: (wanted not in p.name, p.name)
        )
    if on_path := shutil.which("java", path=environ.get("PATH")):
        yield Path(on_path).resolve().parents[1]
