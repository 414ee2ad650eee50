from __future__ import annotations

import socket
from collections.abc import Iterator

import pytest

from deploy.local.errors import WRONG_USAGE, CommandError
from deploy.local.ports import DEFAULT_BASE, OFFSETS, Ports, free_base, is_free, require_free


@pytest.fixture
def listener() -> Iterator[int]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


def test_argument_wins_over_environment_and_environment_over_default() -> None:
    assert Ports.choose(20000, {"TILLSTREAM_PORT_BASE": "21000"}).base == 20000
    assert Ports.choose(None, {"TILLSTREAM_PORT_BASE": "21000"}).base == 21000
    assert Ports.choose(None, {}).base == DEFAULT_BASE


@pytest.mark.parametrize("text", ["abc", "-1", "80", "65500"])
def test_impossible_port_base_is_wrong_usage(text: str) -> None:
    with pytest.raises(CommandError) as failure:
        Ports.choose(None, {"TILLSTREAM_PORT_BASE": text})
    assert failure.value.exit_code == WRONG_USAGE


def test_every_process_has_a_port_of_its_own() -> None:
    assert len(set(OFFSETS.values())) == len(OFFSETS)


def test_kafka_brings_the_port_of_its_controller() -> None:
    assert Ports(20000).of(["kafka"]) == {"kafka": 20092, "kafka controller": 20093}


def test_port_with_a_listener_is_not_free(listener: int) -> None:
    assert not is_free(listener)


def test_taken_port_gives_one_line_that_names_it_and_what_to_do(listener: int) -> None:
    ports = Ports(listener - OFFSETS["quality"])
    with pytest.raises(CommandError) as failure:
        require_free(ports, ["quality"])
    message = str(failure.value)
    assert f"{listener} (quality)" in message
    assert "--port-base" in message
    assert "\n" not in message


def test_free_base_has_all_its_ports_free() -> None:
    ports = free_base()
    require_free(ports, OFFSETS)
