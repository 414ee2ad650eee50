"""`python -m deploy.local.bootstrap`: make the environment from requirements.lock, then run
the command in it.

Standard library only. The environment's folder is named after the lock's hash and the Python that made it, so
a changed lock gets a new one; a file written last marks it as whole, and one without that file is made again.
Packages come through the person's own pip configuration: index, mirror, proxy, certificates.
"""

from __future__ import annotations

import fcntl
import hashlib
import importlib.util
import os
import platform
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from deploy.local import machine
from deploy.local.errors import FAILED, CommandError
from deploy.local.layout import CHECKOUT, Layout
from deploy.local.pip_config import uv_environment

MINIMUM_PYTHON = (3, 11)
# The environment and the downloads beside it, measured and rounded up.
VENV_MIB = 3000
_COMPLETE = ".complete"
# Verbs that answer before anything is installed.
_LIGHT_VERBS = ("doctor", "status", "down", "logs")


@dataclass(frozen=True)
class Environment:
    """The virtual environment of one lock and one Python."""

    folder: Path
    lock: Path

    @classmethod
    def of(cls, tools: Path, checkout: Path) -> Environment:
        lock = checkout / "requirements.lock"
        version = f"{sys.version_info[0]}.{sys.version_info[1]}"
        key = hashlib.sha256(lock.read_bytes() + f"{version} {platform.machine()}".encode()).hexdigest()[:12]
        return cls(tools / f"python-{key}", lock)

    @property
    def python(self) -> Path:
        return self.folder / "bin" / "python"

    def is_complete(self) -> bool:
        return (self.folder / _COMPLETE).exists() and self.python.exists()

    def earlier(self) -> Environment | None:
        """The newest whole environment that another lock left in the same tools folder."""
        marks = sorted(
            self.folder.parent.glob(f"python-*/{_COMPLETE}"), key=lambda mark: mark.stat().st_mtime
        )
        return Environment(marks[-1].parent, self.lock) if marks else None

    def mark_complete(self) -> None:
        (self.folder / _COMPLETE).touch()

    def lacks_venv(self) -> bool:
        """Debian splits ensurepip off into a package of its own."""
        return importlib.util.find_spec("ensurepip") is None

    def venv_package(self) -> str:
        return f"python{sys.version_info[0]}.{sys.version_info[1]}-venv"

    def venv_advice(self) -> str:
        return f"Python's venv module is missing: sudo apt-get install {self.venv_package()}"


def main(arguments: Sequence[str]) -> int:
    layout = Layout.from_environment()
    environment = Environment.of(layout.tools, CHECKOUT)
    try:
        if not environment.is_complete():
            if _is_light(arguments):
                # A stack that runs still runs on the environment of an earlier lock.
                if (earlier := environment.earlier()) is not None:
                    _become(earlier, layout, arguments)
                from deploy.local.cli import main as run

                return run(arguments)
            install(environment, layout.tools)
        _become(environment, layout, arguments)
    except CommandError as error:
        print(f"tillstream: {error}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        print("tillstream: interrupted", file=sys.stderr)
        return 130
    return FAILED


def _is_light(arguments: Sequence[str]) -> bool:
    return not arguments or arguments[0] in _LIGHT_VERBS or not {"-h", "--help"}.isdisjoint(arguments)


def _become(environment: Environment, layout: Layout, arguments: Sequence[str]) -> None:
    env = {
        **os.environ,
        "TILLSTREAM_HOME": str(layout.home),
        "TILLSTREAM_TOOLS": str(layout.tools),
        "PYTHONPATH": str(CHECKOUT),
        "PYTHONNOUSERSITE": "1",
    }
    env.pop("PYTHONHOME", None)
    os.execve(environment.python, [str(environment.python), "-m", "deploy.local", *arguments], env)


def install(environment: Environment, tools: Path) -> None:
    """Make the environment, once however many commands ask for it at the same time."""
    try:
        tools.mkdir(parents=True, exist_ok=True)
        lock_file = (tools / ".lock").open("w")
    except OSError as error:
        raise CommandError(f"cannot write to {tools}: {error.strerror or error}") from error
    with lock_file:
        try:
            fcntl.flock(lock_file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            _say("another command is installing; waiting for it")
            fcntl.flock(lock_file, fcntl.LOCK_EX)
        if environment.is_complete():
            return
        machine.require_free_disk(tools, VENV_MIB, "the Python packages")
        started = time.monotonic()
        log = tools / "install.log"
        _say(f"installing the Python packages into {environment.folder} (log: {log})")
        shutil.rmtree(environment.folder, ignore_errors=True)
        _make_venv(environment, log)
        if not _install_with_uv(environment, log):
            _say("uv is not to be had; going on with pip, which takes longer")
            _install_with_pip(environment, log)
        environment.mark_complete()
        _say(f"Python packages installed in {time.monotonic() - started:.1f} s")


def _make_venv(environment: Environment, log: Path) -> None:
    if environment.lacks_venv():
        if not machine.can_install():
            raise CommandError(environment.venv_advice())
        _say(f"installing {environment.venv_package()} with apt-get")
        machine.apt_install([environment.venv_package()], log)
    if not _run([sys.executable, "-m", "venv", str(environment.folder)], log):
        raise CommandError(f"python -m venv failed: {_last_line(log)} (see {log})")


def _install_with_uv(environment: Environment, log: Path) -> bool:
    """uv at the version and hash of the lock, fetched by pip; it takes a third of pip's time."""
    with tempfile.TemporaryDirectory() as folder:
        own = Path(folder) / "uv.lock"
        own.write_text(entry(environment.lock.read_text(), "uv"))
        pip = [str(environment.python), "-m", "pip", "install", "--quiet", "--require-hashes"]
        if not _run([*pip, "-r", str(own)], log):
            return False
    listing = subprocess.run(
        [str(environment.python), "-m", "pip", "config", "list"], capture_output=True, text=True, check=False
    ).stdout
    uv = [str(environment.python), "-m", "uv", "pip", "install", "--python", str(environment.python)]
    uv += ["--require-hashes", "--quiet", "-r", str(environment.lock)]
    return _run(uv, log, uv_environment(listing, os.environ))


def _install_with_pip(environment: Environment, log: Path) -> None:
    pip = [str(environment.python), "-m", "pip", "install", "--require-hashes"]
    if not _run([*pip, "-r", str(environment.lock)], log):
        raise CommandError(f"the Python packages could not be installed: {_last_line(log)} (see {log})")


def entry(lock: str, name: str) -> str:
    """The requirement of one package in the lock, its hashes included."""
    lines = lock.splitlines()
    start = next((i for i, line in enumerate(lines) if line.startswith(f"{name}==")), None)
    if start is None:
        raise CommandError(f"requirements.lock holds no {name}")
    end = next((i for i in range(start + 1, len(lines)) if not lines[i].startswith(" ")), len(lines))
    return "\n".join(lines[start:end]) + "\n"


def _run(command: list[str], log: Path, env: Mapping[str, str] | None = None) -> bool:
    with log.open("a") as out:
        out.write(f"$ {shlex.join(command)}\n")
        out.flush()
        done = subprocess.run(
            command, stdin=subprocess.DEVNULL, stdout=out, stderr=subprocess.STDOUT, env=env, check=False
        )
    return done.returncode == 0


def _last_line(log: Path) -> str:
    lines = [line for line in log.read_text(errors="replace").splitlines() if line.strip()]
    errors = [line for line in lines if "error" in line.lower()]
    return (errors or lines or ["no output"])[-1].strip()[:300]


def _say(text: str) -> None:
    print(f"tillstream: {text}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
