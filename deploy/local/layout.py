"""Where everything of one stack lives. Standard library only: the bootstrap runs before any install."""

from __future__ import annotations

import hashlib
import json
import os
import secrets
import stat
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from deploy.local.errors import CommandError

CHECKOUT = Path(__file__).resolve().parents[2]
# Set for supervisord and all that it starts, and for nothing else: `down` ends whatever carries it.
STACK_MARK = "TILLSTREAM_STACK"
# sockaddr_un.sun_path holds 108 bytes with the final NUL; supervisord appends ".<pid>" while it binds.
_SOCKET_PATH_MAX = 95


@dataclass(frozen=True)
class Layout:
    """Paths of one stack. Only `create` touches the disk.

    `home`: state of this stack. `tools`: what is installed, which several homes may share.
    """

    home: Path
    tools: Path

    @classmethod
    def from_environment(cls, environ: Mapping[str, str] | None = None) -> Layout:
        env = os.environ if environ is None else environ
        home = Path(env.get("TILLSTREAM_HOME") or CHECKOUT / ".tillstream").expanduser().absolute()
        tools = Path(env.get("TILLSTREAM_TOOLS") or home / "tools").expanduser().absolute()
        return cls(home, tools)

    def create(self) -> Layout:
        for folder in (self.home, self.run, self.logs, self.data, self.state, self.lake):
            try:
                folder.mkdir(parents=True, exist_ok=True)
            except OSError as error:
                raise CommandError(f"cannot create {folder}: {error.strerror or error}") from error
        for private in (self.secrets, self.programs):
            private.mkdir(mode=0o700, exist_ok=True)
        return self

    @property
    def run(self) -> Path:
        """Generated configuration, pid files, the record of the running stack."""
        return self.home / "run"

    @property
    def programs(self) -> Path:
        return self.run / "programs"

    @property
    def logs(self) -> Path:
        return self.home / "logs"

    @property
    def data(self) -> Path:
        """The servers' own data, one folder each."""
        return self.home / "data"

    @property
    def state(self) -> Path:
        """The services' local state, one folder each (`TILLSTREAM_STATE`)."""
        return self.home / "state"

    @property
    def lake(self) -> Path:
        return self.home / "lake"

    @property
    def secrets(self) -> Path:
        return self.home / "secrets"

    @property
    def record(self) -> Path:
        """JSON written by `up`: port base, supervisord's pid, what was started."""
        return self.run / "stack.json"

    @property
    def supervisor_config(self) -> Path:
        return self.run / "supervisord.conf"

    @property
    def supervisor_log(self) -> Path:
        return self.logs / "supervisord.log"

    @property
    def supervisor_pid(self) -> Path:
        return self.run / "supervisord.pid"

    @cached_property
    def socket(self) -> Path:
        """supervisord's Unix socket; under the temporary folder where the home's path is too long."""
        near = self.run / "supervisor.sock"
        if len(os.fsencode(near)) <= _SOCKET_PATH_MAX:
            return near
        digest = hashlib.sha256(os.fsencode(self.home)).hexdigest()[:16]
        folder = Path(tempfile.gettempdir()) / f"tillstream-{os.getuid()}-{digest}"
        folder.mkdir(mode=0o700, exist_ok=True)
        info = folder.lstat()
        if not stat.S_ISDIR(info.st_mode) or info.st_uid != os.getuid():
            raise CommandError(f"{folder} belongs to another user; remove it or set TMPDIR")
        return folder / "supervisor.sock"

    @property
    def kafka_jars(self) -> Path:
        return self.tools / "kafka-jars"

    @property
    def connect_plugins(self) -> Path:
        """One folder a plugin, each with a class loader of its own."""
        return self.tools / "connect-plugins"

    @property
    def registry_app(self) -> Path:
        return self.tools / "registry"

    @property
    def spark_jars(self) -> Path:
        return self.tools / "spark-jars"

    def home_id(self) -> str:
        """Random, made once: tells this home from a later one at the same path."""
        path = self.run / "home-id"
        if not path.exists():
            write_private(path, secrets.token_hex(8))
        return path.read_text().strip()


def write_private(path: Path, text: str) -> None:
    """Write so that only the owner can read it, whole or not at all."""
    partial = path.with_name(path.name + ".partial")
    partial.unlink(missing_ok=True)
    with os.fdopen(os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(text)
    partial.replace(path)


def read_json(path: Path) -> dict[str, object] | None:
    """None where the file is missing or was cut short."""
    try:
        value = json.loads(path.read_text())
    except (FileNotFoundError, ValueError):
        return None
    return value if isinstance(value, dict) else None
