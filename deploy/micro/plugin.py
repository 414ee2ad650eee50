"""A pytest plugin: `pytest_plugins = ["deploy.micro.plugin"]` gives the fixture `tillstream_micro`.

def test_my_till_sells(tillstream_micro):
    my_till.sell(to=tillstream_micro.url)
    assert [sale["invoice_no"] for sale in tillstream_micro.good()] == ["900001"]
    assert tillstream_micro.bad() == []
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from deploy.micro.server import Micro


@pytest.fixture(scope="session")
def _tillstream_micro_server() -> Iterator[Micro]:
    micro = Micro().start()
    yield micro
    micro.close()


@pytest.fixture
def tillstream_micro(_tillstream_micro_server: Micro) -> Micro:
    """The chain in memory, empty, on a free port of this machine."""
    _tillstream_micro_server.reset()
    return _tillstream_micro_server
