"""Fixtures for tests that need real servers: started once for the whole session, on free ports.

`stack`: Kafka, the registry, Postgres and Valkey, with the catalogue's topics, schemas and tables in place.
`platform`: the whole chain, brought up by the real command.

Both use the tools that `./tillstream` installed: `TILLSTREAM_TOOLS`, else those of the checkout. To develop
against servers that run already, set all of `TILLSTREAM_TEST_KAFKA`, `_REGISTRY`, `_POSTGRES` and `_REDIS`.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from deploy.local import lifecycle, toolchain
from deploy.local.layout import CHECKOUT, Layout
from deploy.local.ports import free_base
from deploy.local.progress import Steps
from deploy.local.stack import SERVERS, Stack
from deploy.local.testing import Platform, Servers, run_command, temporary_home, tools_folder

_OWN_SERVERS = ("KAFKA", "REGISTRY", "POSTGRES", "REDIS")
_MARKED_FOLDERS = ("integration", "e2e", "faults")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Tests under tests/integration, tests/e2e and tests/faults carry the marker of their folder."""
    for item in items:
        for folder in _MARKED_FOLDERS:
            if CHECKOUT / "tests" / folder in item.path.parents:
                item.add_marker(folder)


@pytest.fixture(scope="session")
def stack() -> Iterator[Servers]:
    own = {name.lower(): os.environ.get(f"TILLSTREAM_TEST_{name}") for name in _OWN_SERVERS}
    with temporary_home("servers") as home:
        if all(own.values()):
            yield Servers(home=home, **{name: str(value) for name, value in own.items()})
            return
        layout = Layout(home, tools_folder()).create()
        with Steps() as steps:
            running = Stack.build(layout, free_base(SERVERS), toolchain.ensure(layout, steps), SERVERS)
            lifecycle.up(running, steps)
        try:
            urls = {name: str(running.urls()[name]) for name in SERVERS}
            yield Servers(home=home, **urls)
        finally:
            with Steps() as steps:
                lifecycle.down(layout, steps)


@pytest.fixture(scope="session")
def platform() -> Iterator[Platform]:
    with temporary_home("platform") as home:
        env = {
            **os.environ,
            "TILLSTREAM_HOME": str(home),
            "TILLSTREAM_TOOLS": str(tools_folder()),
            "TILLSTREAM_PORT_BASE": str(free_base(start=32000, stop=32700).base),
        }
        try:
            done = run_command(env, "up", "--detach", "--json", timeout_s=900)
            assert done.returncode == 0, done.stderr
            found = json.loads(done.stdout)
            yield Platform(home, found["urls"], Path(found["lake"]), env)
        finally:
            run_command(env, "down")
