from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from native import build
from streamkit import kafka as kafka_clients
from tests.conformance.backends import Backend, KafkaBackend, MemoryBackend


def _kafka(request: pytest.FixtureRequest, engine: kafka_clients.Engine) -> KafkaBackend:
    if engine == "native":
        build.build()
    # A running broker of one's own spares the start of the whole stack.
    address = os.environ.get("TILLSTREAM_TEST_KAFKA") or request.getfixturevalue("stack").kafka
    return KafkaBackend(address, engine)


_ENGINES = [pytest.param(engine, marks=pytest.mark.integration) for engine in ("python", "native")]


@pytest.fixture(params=["memory", *_ENGINES])
def backend(request: pytest.FixtureRequest) -> Iterator[Backend]:
    chosen: Backend = MemoryBackend() if request.param == "memory" else _kafka(request, request.param)
    yield chosen
    chosen.close()


@pytest.fixture(params=["python", "native"])
def kafka(request: pytest.FixtureRequest) -> Iterator[KafkaBackend]:
    """For what only real processes and outside clients can show; mark such a test `integration`."""
    chosen = _kafka(request, request.param)
    yield chosen
    chosen.close()
