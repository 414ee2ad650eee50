"""The verb test: the one command that checks everything."""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from pathlib import Path

from deploy.local.errors import FAILED
from deploy.local.layout import CHECKOUT, Layout

# In this order, so that the quick ones fail first.
FOLDERS = ("unit", "property", "contract", "conformance", "simulation", "integration", "e2e", "faults")


def register(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    test = subparsers.add_parser(
        "test",
        help="run the static checks and the tests",
        description="Static checks (ruff, mypy --strict, import rules), then unit, property, contract and "
        "conformance tests, then integration, end to end and faults on real servers that it starts for "
        "itself on free ports. Further arguments go to pytest; with paths among them only those tests run, "
        "without the static checks.",
    )
    test.add_argument("--long", action="store_true", help="the long tests too")
    test.add_argument("pytest", nargs=argparse.REMAINDER, metavar="...", help="arguments for pytest")
    test.set_defaults(run=_test)


def static_checks() -> dict[str, list[str]]:
    """Name to command."""
    python = [sys.executable, "-m"]
    # import-linter has no module to run, only its entry point.
    imports = "import sys; from importlinter.cli import lint_imports; sys.exit(lint_imports())"
    return {
        "ruff check": [*python, "ruff", "check", "."],
        "ruff format": [*python, "ruff", "format", "--check", "."],
        "mypy --strict": [*python, "mypy"],
        "import rules": [sys.executable, "-c", imports],
    }


def pytest_command(*, long: bool, extra: list[str], checkout: Path = CHECKOUT) -> list[str]:
    command = [sys.executable, "-m", "pytest"]
    if not long and "-m" not in extra:
        command += ["-m", "not long"]
    if not has_paths(extra, checkout):
        command += [f"tests/{name}" for name in FOLDERS if (checkout / "tests" / name).is_dir()]
        command += ["examples"] if (checkout / "examples").is_dir() else []
    return command + extra


def has_paths(extra: list[str], checkout: Path = CHECKOUT) -> bool:
    """Whether any argument names tests: a file, a folder or `file::test`."""
    return any((checkout / word.partition("::")[0]).exists() for word in extra if not word.startswith("-"))


def _test(args: argparse.Namespace) -> int:
    extra = [word for word in args.pytest if word not in ("--", "--long")]
    long = args.long or "--long" in args.pytest
    layout = Layout.from_environment()
    # The tests start stacks of their own, in homes of their own, with the tools that are installed here.
    env = {**os.environ, "TILLSTREAM_TOOLS": str(layout.tools), "PYTHONPATH": str(CHECKOUT)}
    failed = (
        []
        if has_paths(extra)
        else [name for name, cmd in static_checks().items() if not _passes(name, cmd, env)]
    )
    if failed:
        print(f"static checks failed: {', '.join(failed)}; the tests run all the same", file=sys.stderr)
    sys.stdout.flush()
    code = subprocess.run(
        pytest_command(long=long, extra=extra), cwd=CHECKOUT, env=env, check=False
    ).returncode
    return 0 if code == 0 and not failed else FAILED


def _passes(name: str, command: list[str], env: dict[str, str]) -> bool:
    started = time.monotonic()
    done = subprocess.run(
        command,
        cwd=CHECKOUT,
        env=env,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        print(done.stdout)
    print(
        f"{'ok' if done.returncode == 0 else 'failed':>6}  {name:<20} {time.monotonic() - started:6.1f} s",
        flush=True,
    )
    return done.returncode == 0
