"""Build the native library: `python -m native.build`. Standard library only: images are made with it.

The library lies in the environment that uses it, under a name that holds a hash of its sources and of how
they are compiled: a checkout never runs the library of another.
"""

from __future__ import annotations

import hashlib
import os
import platform
import shutil
import subprocess
import sys
from pathlib import Path

SOURCES = Path(__file__).parent / "src"
FLAGS = (
    "-O3",
    "-std=c11",
    "-D_GNU_SOURCE",
    "-Wall",
    "-Wextra",
    "-fPIC",
    "-shared",
    "-fvisibility=hidden",
    "-fstack-protector-strong",
)
LIBRARIES = ("-ldl", "-lpthread")
_TIMEOUT_S = 300


class BuildError(Exception):
    """The library cannot be built; the message says why."""


def compiler() -> str | None:
    """The C compiler: `CC`, or the first that is installed."""
    wanted = os.environ.get("CC")
    names = (wanted,) if wanted else ("cc", "gcc", "clang")
    return next((found for name in names if (found := shutil.which(name))), None)


def flags() -> list[str]:
    """Of the compiler; `CFLAGS` adds to them, for a sanitizer."""
    return [*FLAGS, *os.environ.get("CFLAGS", "").split()]


def target(environment: Path | None = None) -> Path:
    """Where the library of these sources is, or would be, in an environment (that of this process)."""
    digest = hashlib.sha256(" ".join([*flags(), platform.machine()]).encode())
    for source in sorted(SOURCES.glob("*.[ch]")):
        digest.update(source.name.encode() + b"\0" + source.read_bytes())
    return (environment or Path(sys.prefix)) / "lib" / "tillstream" / f"native-{digest.hexdigest()[:16]}.so"


def build() -> Path:
    """Compile unless it is there already; several processes may do so at once. Raises `BuildError`."""
    library = target()
    if library.exists():
        return library
    cc = compiler()
    if cc is None:
        raise BuildError("no C compiler: sudo apt-get install gcc libc6-dev")
    partial = library.with_suffix(f".{os.getpid()}")
    sources = [str(source) for source in sorted(SOURCES.glob("*.c"))]
    try:
        library.parent.mkdir(parents=True, exist_ok=True)
        done = subprocess.run(  # noqa: S603 - the compiler of this machine
            [cc, *flags(), "-o", str(partial), *sources, *LIBRARIES],
            capture_output=True,
            text=True,
            check=False,
            timeout=_TIMEOUT_S,
        )
        if done.returncode != 0:
            raise BuildError(f"{cc} failed: {done.stderr.strip()[-2000:]}")
        partial.replace(library)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise BuildError(f"{library} cannot be written: {error}") from error
    finally:
        partial.unlink(missing_ok=True)
    return library


def main() -> int:
    try:
        print(build())
    except BuildError as error:
        print(f"native library: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
