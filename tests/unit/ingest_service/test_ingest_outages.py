"""What the service does about a broker that does not answer or has given a client up."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from ingest_service.pipeline import NotReady
from ingest_service.producers import RenewedProducer
from streamkit.ports import BrokerError, OutputBatch
from tests.unit.ingest_service.ingest_world import World


class Client:
    """A producer that fails with what it is given."""

    def __init__(self, error: BrokerError | None = None) -> None:
        self.error = error
        self.calls = 0

    def produce(self, batches: Sequence[OutputBatch], timeout_s: float) -> None:
        self.calls += 1
        if self.error is not None:
            raise self.error

    def close(self) -> None:
        """Nothing is held."""


def test_requests_are_turned_away_after_the_second_failed_look_and_until_the_next_good_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = World(tmp_path)
    assert world.gate.look() is None

    def unreachable(topics: Sequence[str]) -> dict[str, str]:
        raise BrokerError("no answer", retriable=True)

    with monkeypatch.context() as patch:
        patch.setattr(world.admin, "topic_ids", unreachable)
        assert world.gate.look() == "Kafka: no answer"
        assert world.stats.readiness() == (False, "Kafka: no answer")
        world.gate.encoders()
        world.gate.look()
        with pytest.raises(NotReady, match="Kafka does not answer"):
            world.gate.encoders()
    assert world.gate.look() is None
    assert world.stats.readiness() == (True, None)
    world.gate.encoders()


def test_client_with_a_fatal_error_is_replaced_for_the_next_call() -> None:
    clients = [Client(BrokerError("lost its sequence")), Client()]
    made = iter(clients)
    producer = RenewedProducer(lambda: next(made))
    with pytest.raises(BrokerError, match="lost its sequence"):
        producer.produce([], 1.0)
    producer.produce([], 1.0)
    assert [client.calls for client in clients] == [1, 1]


def test_client_with_a_passing_error_is_kept() -> None:
    clients = [Client(BrokerError("broker down", retriable=True)), Client()]
    made = iter(clients)
    producer = RenewedProducer(lambda: next(made))
    for _ in range(2):
        with pytest.raises(BrokerError, match="broker down"):
            producer.produce([], 1.0)
    assert [client.calls for client in clients] == [2, 0]
