"""`python lock_subset.py EXTRA...`: the part of requirements.lock that these extras of pyproject.toml need.

Prints it with its hashes. pip resolves the project's dependencies and those of the extras against the lock's
versions, without installing; names that it finds are then picked out of the lock. What is installed from the
result with `--require-hashes --no-deps` is therefore nothing but what the lock holds, and a package that is
not in the lock ends the build here. Standard library only: it runs in an image that has Python and pip.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tempfile
import tomllib
from pathlib import Path


class SubsetError(Exception):
    """The lock and the project disagree."""


def normalised(name: str) -> str:
    """The form in which two spellings of a package's name are equal (PEP 503)."""
    return re.sub(r"[-_.]+", "-", name).lower()


def entries(lock: str) -> list[tuple[str, str]]:
    """Name and whole entry (requirement, marker, hashes) of each pinned package, in order.

    A name comes twice where its version depends on the Python.
    """
    found: list[tuple[str, str]] = []
    for line in lock.splitlines(keepends=True):
        if line.startswith("#") or not line.strip():
            continue
        if line[0].isspace():
            name, entry = found[-1]
            found[-1] = (name, entry + line)
        else:
            found.append((normalised(line.partition("==")[0].strip()), line))
    return found


def constraints(lock: str) -> str:
    """The lock without its hashes."""
    return "".join(entry.partition("\n")[0].rstrip(" \\") + "\n" for _, entry in entries(lock))


def requirements(project: str, extras: list[str]) -> list[str]:
    """What the project itself asks for, and what each of the extras adds."""
    table = tomllib.loads(project)["project"]
    wanted = list(table["dependencies"])
    for extra in extras:
        try:
            wanted += table["optional-dependencies"][extra]
        except KeyError:
            raise SubsetError(f"pyproject.toml has no extra {extra}") from None
    return wanted


def resolve(wanted: list[str], pins: str) -> set[str]:
    """Names of all packages that these requirements bring, with everything pinned."""
    with tempfile.TemporaryDirectory() as folder:
        file, report = Path(folder, "constraints.txt"), Path(folder, "report.json")
        file.write_text(pins)
        command = [sys.executable, "-m", "pip", "install", "--dry-run", "--ignore-installed", "--quiet"]
        command += ["--report", str(report), "-c", str(file), *wanted]
        if subprocess.run(command, stdout=sys.stderr, check=False).returncode != 0:  # noqa: S603
            raise SubsetError("pip found no solution within the lock")
        found = json.loads(report.read_text())["install"]
    return {normalised(item["metadata"]["name"]) for item in found}


def subset(lock: str, names: set[str]) -> str:
    """The lock's entries of these names. Raises `SubsetError` for a name that it does not hold."""
    all_entries = entries(lock)
    if missing := sorted(names - {name for name, _ in all_entries}):
        raise SubsetError(f"requirements.lock does not hold {', '.join(missing)}")
    return "".join(entry for name, entry in all_entries if name in names)


def main(extras: list[str]) -> int:
    folder = Path.cwd()
    lock = (folder / "requirements.lock").read_text()
    try:
        wanted = requirements((folder / "pyproject.toml").read_text(), extras)
        print(subset(lock, resolve(wanted, constraints(lock))), end="")
    except SubsetError as error:
        print(f"lock_subset: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
