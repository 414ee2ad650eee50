"""What tests say and do to stacks of their own: typed handles, temporary homes, the command."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from deploy.local.layout import CHECKOUT


@dataclass(frozen=True)
class Servers:
    """What `stack` gives: a bootstrap list, the registry's Confluent URL, a DSN, a Redis URL, a folder."""

    kafka: str
    registry: str
    postgres: str
    redis: str
    home: Path


@dataclass(frozen=True)
class Platform:
    """The whole chain. `urls` are those of `status --json`."""

    home: Path
    urls: dict[str, str]
    lake: Path
    env: dict[str, str] = field(repr=False)

    def command(self, *arguments: str, timeout_s: float = 300) -> subprocess.CompletedProcess[str]:
        """Run `./tillstream` for this home; output is captured, the exit code is not checked."""
        return run_command(self.env, *arguments, timeout_s=timeout_s)

    def json(self, *arguments: str, timeout_s: float = 300) -> Any:
        """The JSON that a verb prints with --json; its exit code must be 0."""
        done = self.command(*arguments, "--json", timeout_s=timeout_s)
        assert done.returncode == 0, f"{arguments}: exit code {done.returncode}\n{done.stderr}"
        return json.loads(done.stdout)

    def service(self, name: str) -> dict[str, Any]:
        """One entry of `services` in `status --json`."""
        return next(entry for entry in self.json("status")["services"] if entry["name"] == name)


def run_command(
    env: dict[str, str], *arguments: str, timeout_s: float = 300
) -> subprocess.CompletedProcess[str]:
    command = [str(CHECKOUT / "tillstream"), *arguments]
    return subprocess.run(
        command,
        env=env,
        capture_output=True,
        text=True,
        timeout=timeout_s,
        check=False,
        stdin=subprocess.DEVNULL,
    )


def tools_folder() -> Path:
    return Path(os.environ.get("TILLSTREAM_TOOLS") or CHECKOUT / ".tillstream" / "tools")


@contextmanager
def temporary_home(name: str) -> Iterator[Path]:
    """A new folder with a short path, open to other users, as a home is."""
    home = Path(tempfile.mkdtemp(prefix=f"tillstream-{name}-"))
    home.chmod(0o755)
    try:
        yield home
    finally:
        if not os.environ.get("TILLSTREAM_TEST_KEEP"):
            shutil.rmtree(home, ignore_errors=True)
