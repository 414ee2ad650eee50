"""Which errors of the client pass by themselves, and which end the stage."""

from __future__ import annotations

import confluent_kafka as ck
import pytest

from streamkit.kafka.consumer import KafkaConsumer
from streamkit.ports import BrokerError


class Message:
    def __init__(self, code: int) -> None:
        self._error = ck.KafkaError(code)

    def error(self) -> ck.KafkaError:
        return self._error


@pytest.fixture
def consumer() -> KafkaConsumer:
    return KafkaConsumer("127.0.0.1:1", "group")


@pytest.mark.parametrize("code", [ck.KafkaError._TRANSPORT, ck.KafkaError._ALL_BROKERS_DOWN])
def test_an_outage_passes_by_itself(consumer: KafkaConsumer, code: int) -> None:
    assert not consumer._event(Message(code))


# A static member that was fenced reads nothing for ever (librdkafka tells of it by _FATAL).
@pytest.mark.parametrize("code", [ck.KafkaError._FATAL, ck.KafkaError.FENCED_INSTANCE_ID])
def test_the_end_of_the_client_ends_the_stage(consumer: KafkaConsumer, code: int) -> None:
    with pytest.raises(BrokerError):
        consumer._event(Message(code))
