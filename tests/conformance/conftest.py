from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from tests.conformance.backends import Backend, KafkaBackend, MemoryBackend


@pytest.fixture(params=["memory", pytest.param("kafka", marks=pytest.mark.integration)])
def backend(request: pytest.FixtureRequest) -> Iterator[Backend]:
    chosen: Backend
    if request.param == "memory":
        chosen = MemoryBackend()
    else:
        # A running broker of one's own spares the start of the whole stack.
        address = os.environ.get("TILLSTREAM_TEST_KAFKA") or request.getfixturevalue("stack").kafka
        chosen = KafkaBackend(address)
    yield chosen
    chosen.close()
