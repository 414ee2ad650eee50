"""From librdkafka's errors to those of the ports."""

from __future__ import annotations

from confluent_kafka import KafkaError, KafkaException

from streamkit.ports import BrokerError, Fenced, TransactionAborted

_FENCED = frozenset(
    {
        KafkaError._FENCED,
        KafkaError.PRODUCER_FENCED,
        KafkaError.INVALID_PRODUCER_EPOCH,
        KafkaError.FENCED_INSTANCE_ID,
    }
)
_OUTAGE = frozenset(
    {
        KafkaError._TIMED_OUT,
        KafkaError._TRANSPORT,
        KafkaError._ALL_BROKERS_DOWN,
        KafkaError._RESOLVE,
        KafkaError.REQUEST_TIMED_OUT,
    }
)


def error_of(error: KafkaException | KafkaError) -> KafkaError:
    return error.args[0] if isinstance(error, KafkaException) else error


def translate(raised: KafkaException | KafkaError, doing: str) -> BrokerError:
    """`doing` says which call failed, for the message."""
    error = error_of(raised)
    message = f"{doing}: {error.name()}: {error.str()}"
    if error.code() in _FENCED:
        return Fenced(message)
    if error.txn_requires_abort():
        return TransactionAborted(message, retriable=True)
    retriable = not error.fatal() and (error.retriable() or error.code() in _OUTAGE)
    return BrokerError(message, retriable=retriable)
