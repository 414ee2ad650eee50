"""The verb doctor: every prerequisite, whether it holds, and what to do where it does not."""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass

from deploy.local import jars, java, machine, toolchain
from deploy.local.bootstrap import MINIMUM_PYTHON, VENV_MIB, Environment
from deploy.local.errors import FAILED, CommandError
from deploy.local.layout import CHECKOUT, Layout
from deploy.local.lifecycle import DISK_MIB
from deploy.local.ports import OFFSETS, Ports, is_free
from deploy.local.stack import Stack
from deploy.local.versions import VERSIONS
from native import build

# All idle 1.9 GB, under load 3.8 GB.
_MEMORY_MIB = 4000


@dataclass(frozen=True)
class Check:
    """`advice` says what to do about a problem."""

    name: str
    ok: bool
    found: str
    advice: str | None = None


def register(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    doctor = subparsers.add_parser("doctor", help="check every prerequisite and say what to do")
    doctor.add_argument("--json", action="store_true", help="as JSON")
    doctor.set_defaults(run=_doctor)


def _doctor(args: argparse.Namespace) -> int:
    found = list(checks(Layout.from_environment()))
    if args.json:
        print(json.dumps([asdict(check) for check in found], indent=2))
    else:
        for check in found:
            print(f"{'ok' if check.ok else 'problem':<9}{check.name:<12}{check.found}")
            if check.advice is not None and not check.ok:
                print(f"{'':<21}-> {check.advice}")
    return 0 if all(check.ok for check in found) else FAILED


def checks(layout: Layout) -> Iterator[Check]:
    yield _system()
    yield _python(layout)
    yield _native(layout)
    yield from _java()
    yield _jars(layout)
    yield _disk(layout)
    yield _memory()
    yield _user()
    yield _ports()


def _system() -> Check:
    system, machine_name = platform.system(), platform.machine()
    ok = system == "Linux" and machine_name in ("x86_64", "aarch64")
    return Check("system", ok, f"{system} {machine_name}", "Linux on x86_64 or aarch64 is needed")


def _python(layout: Layout) -> Check:
    version = ".".join(map(str, sys.version_info[:3]))
    environment = Environment.of(layout.tools, CHECKOUT)
    if sys.version_info[:2] < MINIMUM_PYTHON:
        wanted = ".".join(map(str, MINIMUM_PYTHON))
        return Check("python", False, version, f"Python {wanted} or later is needed")
    if environment.is_complete():
        return Check("python", True, f"{version}, packages installed in {environment.folder}")
    if environment.lacks_venv() and not machine.can_install():
        return Check("python", False, f"{version} without ensurepip", environment.venv_advice())
    return Check("python", True, f"{version}, packages will be installed at the first command")


def _native(layout: Layout) -> Check:
    """Which Kafka clients TILLSTREAM_ENGINE=auto takes. Nothing needs the native ones but speed."""
    environment = Environment.of(layout.tools, CHECKOUT)
    if (built := build.target(environment.folder)).exists():
        return Check("native", True, f"native Kafka clients: {built}")
    if build.compiler() is not None:
        return Check("native", True, "native Kafka clients will be built at the next up")
    found = "Python Kafka clients; for the faster native ones: sudo apt-get install gcc libc6-dev"
    return Check("native", True, found)


def _java() -> Iterator[Check]:
    release = VERSIONS.java_release
    if jdk := java.find():
        yield Check("java", True, f"JDK {release} in {jdk.home}")
    elif machine.can_install():
        yield Check("java", True, f"no JDK {release}; the first up installs it with apt-get")
    else:
        yield Check("java", False, f"no JDK {release}", toolchain.java_advice())
    if mvn := shutil.which("mvn"):
        yield Check("maven", True, mvn)
    elif machine.can_install():
        yield Check("maven", True, "none; the first up installs it with apt-get")
    else:
        yield Check("maven", False, "none", toolchain.maven_advice())


def _jars(layout: Layout) -> Check:
    missing = [c.title for c in jars.components() if not jars.is_installed(c, layout)]
    if missing:
        return Check("jars", True, f"{', '.join(missing)}: fetched and checked at the next up")
    return Check("jars", True, f"installed and checked in {layout.tools}")


def _disk(layout: Layout) -> Check:
    installed = Environment.of(layout.tools, CHECKOUT).is_complete()
    needed = DISK_MIB + (0 if installed else VENV_MIB)
    free = machine.free_mib(layout.home)
    advice = f"{needed} MB are needed: free some, or set TILLSTREAM_HOME to a larger disk"
    return Check("disk", free >= needed, f"{free} MB free under {layout.home}", advice)


def _memory() -> Check:
    available = machine.available_memory_mib()
    if available is None:
        return Check("memory", True, "unknown")
    # A running stack has taken its share already.
    ok = available >= _MEMORY_MIB or Stack.current() is not None
    return Check("memory", ok, f"{available} MB available", f"{_MEMORY_MIB} MB are needed")


def _user() -> Check:
    if not machine.is_root():
        return Check("user", True, f"uid {os.getuid()}")
    return Check("user", True, f"root; PostgreSQL runs as uid {machine.UNPRIVILEGED_UID}")


def _ports() -> Check:
    if (stack := Stack.current()) is not None:
        return Check("ports", True, f"the stack runs on port base {stack.ports.base}")
    try:
        ports = Ports.choose(None)
    except CommandError as error:
        return Check("ports", False, "none", str(error))
    taken = [f"{ports[name]} ({name})" for name in OFFSETS if not is_free(ports[name])]
    advice = "end what uses them, or choose others with --port-base N or TILLSTREAM_PORT_BASE"
    if taken:
        return Check("ports", False, f"taken: {', '.join(taken)}", advice)
    return Check("ports", True, f"port base {ports.base}: all free")
