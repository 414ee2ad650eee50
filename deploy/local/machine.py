"""What this machine offers: packages, disk, memory, the right to change users. Standard library only."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

from deploy.local.errors import CommandError

# PostgreSQL and Elasticsearch refuse to run as root; this uid exists everywhere as `nobody`.
UNPRIVILEGED_UID = 65534
MIB = 1024 * 1024


def is_root() -> bool:
    return os.geteuid() == 0


def can_install() -> bool:
    return is_root() and shutil.which("apt-get") is not None


def apt_install(packages: Sequence[str], log: Path) -> None:
    """Install Debian packages as root; the full output goes to `log`."""
    env = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("a") as out:
        for command in (
            ["apt-get", "update", "-q"],
            ["apt-get", "install", "-q", "-y", "--no-install-recommends", *packages],
        ):
            code = subprocess.run(
                command, stdin=subprocess.DEVNULL, stdout=out, stderr=subprocess.STDOUT, env=env, check=False
            ).returncode
            # A stale mirror fails `update` and may still serve the package.
            if code != 0 and command[1] == "install":
                raise CommandError(f"apt-get install {' '.join(packages)} failed (see {log})")


def free_mib(path: Path) -> int:
    """Free space where `path` is or will be, for this user."""
    existing = path
    while not existing.exists():
        existing = existing.parent
    return shutil.disk_usage(existing).free // MIB


def require_free_disk(path: Path, needed_mib: int, what_for: str) -> None:
    free = free_mib(path)
    if free < needed_mib:
        raise CommandError(
            f"not enough disk for {what_for}: {free} MB free under {path}, {needed_mib} MB needed; "
            f"free some, or set TILLSTREAM_HOME to a larger disk"
        )


def available_memory_mib() -> int | None:
    """MemAvailable, or None where the kernel does not say."""
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
    except OSError:
        return None
    for line in lines:
        if line.startswith("MemAvailable:"):
            return int(line.split()[1]) // 1024
    return None


def reachable_by_others(path: Path) -> bool:
    """Whether a user with no rights of its own can pass through every folder down to `path`."""
    real = path.resolve()
    return all(folder.stat().st_mode & 0o001 for folder in [real, *real.parents] if folder.is_dir())
