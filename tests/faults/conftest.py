from __future__ import annotations

from collections.abc import Iterator

import pytest

from deploy.local.testing import Platform
from tests.faults.world import World


@pytest.fixture(scope="session")
def world(platform: Platform) -> Iterator[World]:
    found = World(platform)
    yield found
    found.close()
