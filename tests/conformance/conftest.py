from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from tests.conformance.backends import Backend, KafkaBackend, MemoryBackend


def _kafka(request: pytest.FixtureRequest) -> KafkaBackend:
    # A running broker of one's own spares the start of the whole stack.
    address = os.environ.get("TILLSTREAM_TEST_KAFKA") or request.getfixturevalue("stack").kafka
    return KafkaBackend(address)


@pytest.fixture(params=["memory", pytest.param("kafka", marks=pytest.mark.integration)])
def backend(request: pytest.FixtureRequest) -> Iterator[Backend]:
    chosen: Backend = MemoryBackend() if request.param == "memory" else _kafka(request)
    yield chosen
    chosen.close()


@pytest.fixture
def kafka(request: pytest.FixtureRequest) -> Iterator[KafkaBackend]:
    """For what only real processes and outside clients can show; mark such a test `integration`."""
    chosen = _kafka(request)
    yield chosen
    chosen.close()
