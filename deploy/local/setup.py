"""What the servers must hold before a service starts: topics, schemas, tables. All of it idempotent."""

from __future__ import annotations

import subprocess
import sys

from deploy.local import server_postgres, server_registry
from deploy.local.credentials import personal_keys
from deploy.local.errors import CommandError
from deploy.local.layout import CHECKOUT
from deploy.local.ports import HOST
from deploy.local.stack import Stack
from native import build


def native_library() -> str:
    """Build the native library unless it is there; says what became of it. Without it, stages are slower."""
    try:
        return f"native library: {build.build()}"
    except build.BuildError as error:
        return f"no native library, so the stages run on Python alone: {error}"


def topics(stack: Stack) -> None:
    """Create the topics of the catalogue; one that is there must have the partitions it says."""
    from deploy.topics import TopicError, create_topics

    try:
        create_topics(f"{HOST}:{stack.ports['kafka']}")
    except TopicError as error:
        raise CommandError(str(error)) from error


def schemas(stack: Stack) -> None:
    """Register every topic's schema; the registry refuses one that is not BACKWARD compatible."""
    import stamina

    from schemas.catalogue import register_all
    from schemas.registry import RegistryClient, RegistryUnavailable, SchemaRejected

    # A registry that has just started on a busy machine may be slow with its first answers.
    patiently = stamina.RetryingCaller(attempts=None, timeout=60.0, wait_max=2.0).on(RegistryUnavailable)
    try:
        patiently(register_all, RegistryClient(server_registry.url(stack.ports)))
    except (RegistryUnavailable, SchemaRejected) as error:
        raise CommandError(f"schemas could not be registered: {error}") from error


def migrate(stack: Stack) -> None:
    """Bring the database's tables up to date."""
    dsn = server_postgres.dsn(stack.layout, stack.ports)
    _run("the database could not be migrated", ["deploy.postgres", "migrate"], {"TILLSTREAM_POSTGRES": dsn})


def seed(stack: Stack) -> None:
    """Fill the shop's tables from the sample, once for a database."""
    env = {
        "TILLSTREAM_POSTGRES": server_postgres.dsn(stack.layout, stack.ports),
        **personal_keys(stack.layout),
    }
    _run("the shop could not be filled", ["deploy.shop", "seed"], env)


def _run(failure: str, module: list[str], env: dict[str, str]) -> None:
    done = subprocess.run(
        [sys.executable, "-m", *module],
        env={"PYTHONPATH": str(CHECKOUT), **env},
        capture_output=True,
        text=True,
        check=False,
        cwd=CHECKOUT,
    )
    if done.returncode != 0:
        lines = (done.stderr or done.stdout).strip().splitlines()
        raise CommandError(f"{failure}: {lines[-1] if lines else 'no reason given'}")
