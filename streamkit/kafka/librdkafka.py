"""The control plane of the native clients: librdkafka's public C interface, called through ctypes.

Only what is called once a batch or less; records go through the native library (`native/`).
"""

from __future__ import annotations

import ctypes
import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from ctypes import POINTER, c_char_p, c_int, c_int32, c_int64, c_size_t, c_void_p
from functools import cache
from typing import Any

import confluent_kafka as ck

from native.library import integers, librdkafka, load_with_kafka
from streamkit.kafka.errors import translate
from streamkit.ports import BrokerError, TopicPartition

CONSUMER, PRODUCER = 1, 0
ASSIGN, REVOKE = -175, -174
OFFSET_INVALID, OFFSET_BEGINNING = -1001, -2
PURGE_ALL = 0x1 | 0x2 | 0x4  # queued, in flight, without waiting
NO_ERROR = 0

_client_log = logging.getLogger("rdkafka")
_NOTES_BYTES = 1 << 16
# syslog's levels, which librdkafka uses.
_LEVELS = {3: logging.ERROR, 4: logging.WARNING, 5: logging.INFO, 6: logging.INFO, 7: logging.DEBUG}


class _Partition(ctypes.Structure):
    """rd_kafka_topic_partition_t."""

    _fields_ = (
        ("topic", c_char_p),
        ("partition", c_int32),
        ("offset", c_int64),
        ("metadata", c_void_p),
        ("metadata_size", c_size_t),
        ("opaque", c_void_p),
        ("err", c_int),
        ("_private", c_void_p),
    )


class _List(ctypes.Structure):
    """rd_kafka_topic_partition_list_t."""

    _fields_ = (("cnt", c_int), ("size", c_int), ("elems", POINTER(_Partition)))


_P = c_void_p
_SIGNATURES: dict[str, tuple[Any, list[Any]]] = {
    "conf_new": (_P, []),
    "conf_destroy": (None, [_P]),
    "conf_set": (c_int, [_P, c_char_p, c_char_p, c_char_p, c_size_t]),
    "new": (_P, [c_int, _P, c_char_p, c_size_t]),
    "destroy": (None, [_P]),
    "destroy_flags": (None, [_P, c_int]),
    "poll": (c_int, [_P, c_int]),
    "poll_set_consumer": (c_int, [_P]),
    "queue_get_consumer": (_P, [_P]),
    "queue_destroy": (None, [_P]),
    "subscribe": (c_int, [_P, _P]),
    "assignment": (c_int, [_P, POINTER(POINTER(_List))]),
    "assignment_lost": (c_int, [_P]),
    "incremental_assign": (_P, [_P, _P]),
    "incremental_unassign": (_P, [_P, _P]),
    "pause_partitions": (c_int, [_P, _P]),
    "resume_partitions": (c_int, [_P, _P]),
    "seek_partitions": (_P, [_P, _P, c_int]),
    "committed": (c_int, [_P, _P, c_int]),
    "commit": (c_int, [_P, _P, c_int]),
    "get_watermark_offsets": (c_int, [_P, c_char_p, c_int32, POINTER(c_int64), POINTER(c_int64)]),
    "query_watermark_offsets": (
        c_int,
        [_P, c_char_p, c_int32, POINTER(c_int64), POINTER(c_int64), c_int],
    ),
    "consumer_group_metadata": (_P, [_P]),
    "consumer_group_metadata_destroy": (None, [_P]),
    "consumer_close_queue": (_P, [_P, _P]),
    "consumer_closed": (c_int, [_P]),
    "topic_partition_list_new": (POINTER(_List), [c_int]),
    "topic_partition_list_add": (POINTER(_Partition), [_P, c_char_p, c_int32]),
    "topic_partition_list_destroy": (None, [_P]),
    "topic_new": (_P, [_P, c_char_p, _P]),
    "topic_destroy": (None, [_P]),
    "init_transactions": (_P, [_P, c_int]),
    "begin_transaction": (_P, [_P]),
    "send_offsets_to_transaction": (_P, [_P, _P, _P, c_int]),
    "commit_transaction": (_P, [_P, c_int]),
    "abort_transaction": (_P, [_P, c_int]),
    "flush": (c_int, [_P, c_int]),
    "purge": (c_int, [_P, c_int]),
    "error_code": (c_int, [_P]),
    "error_string": (c_char_p, [_P]),
    "error_is_fatal": (c_int, [_P]),
    "error_is_retriable": (c_int, [_P]),
    "error_txn_requires_abort": (c_int, [_P]),
    "error_destroy": (None, [_P]),
    "last_error": (c_int, []),
    "fatal_error": (c_int, [_P, c_char_p, c_size_t]),
}


@cache
def functions() -> Any:
    """`rd_kafka_x` as attribute `rd_kafka_x`. Raises `native.library.NativeUnavailable`."""
    library = ctypes.CDLL(str(librdkafka()))
    for name, (result, arguments) in _SIGNATURES.items():
        function = getattr(library, f"rd_kafka_{name}")
        function.restype, function.argtypes = result, arguments
    return library


class Client:
    """One rd_kafka_t with the native library's state of it. Not thread-safe unless said otherwise."""

    def __init__(self, kind: int, config: Mapping[str, Any]) -> None:
        self.rd, self.native = functions(), load_with_kafka()
        self.state = self.native.ts_client_new()
        if not self.state:
            raise MemoryError
        conf = self._configured(config)
        hook = self.native.ts_hook_consumer if kind == CONSUMER else self.native.ts_hook_producer
        hook(conf, self.state)
        text = ctypes.create_string_buffer(512)
        self.handle = self.rd.rd_kafka_new(kind, conf, text, len(text))
        if not self.handle:
            self.rd.rd_kafka_conf_destroy(conf)
            self.native.ts_client_free(self.state)
            raise BrokerError(f"the client refuses its configuration: {text.value.decode(errors='replace')}")

    def _configured(self, config: Mapping[str, Any]) -> Any:
        conf, text = self.rd.rd_kafka_conf_new(), ctypes.create_string_buffer(512)
        for name, value in config.items():
            given = str(value).lower() if isinstance(value, bool) else str(value)
            if self.rd.rd_kafka_conf_set(conf, name.encode(), given.encode(), text, len(text)) != NO_ERROR:
                self.rd.rd_kafka_conf_destroy(conf)
                raise BrokerError(f"{name}={given!r}: {text.value.decode(errors='replace')}")
        return conf

    def log_notes(self) -> None:
        """Pass on what librdkafka has logged since."""
        (lost,) = integers()
        text = ctypes.create_string_buffer(_NOTES_BYTES)
        size = self.native.ts_notes(self.state, text, len(text), ctypes.byref(lost))
        if not size and not lost.value:
            return
        for line in text.raw[:size].decode(errors="replace").split("\x1e")[:-1]:
            level, facility, said = line.split("\t", 2)
            _client_log.log(_LEVELS.get(int(level), logging.ERROR), "%s %s", facility, said)
        if lost.value:
            _client_log.warning("%d more lines had no room", lost.value)

    def check(self, error: Any, doing: str) -> None:
        """Raise what an rd_kafka_error_t says, and free it."""
        kafka_error = self.taken(error)
        if kafka_error is not None:
            raise translate(kafka_error, doing)

    def taken(self, error: Any) -> Any:
        """A `KafkaError` from an rd_kafka_error_t, which is freed; None where it is null."""
        if not error:
            return None
        rd = self.rd
        taken = ck.KafkaError(
            rd.rd_kafka_error_code(error),
            rd.rd_kafka_error_string(error).decode(errors="replace"),
            bool(rd.rd_kafka_error_is_fatal(error)),
            bool(rd.rd_kafka_error_is_retriable(error)),
            bool(rd.rd_kafka_error_txn_requires_abort(error)),
        )
        rd.rd_kafka_error_destroy(error)
        return taken

    def check_code(self, code: int, doing: str) -> None:
        if code != NO_ERROR:
            raise translate(ck.KafkaError(code), doing)

    def destroy(self) -> None:
        """Everything that was got from the client has been given back before."""
        self.log_notes()
        self.native.ts_forget(self.state)
        self.rd.rd_kafka_destroy(self.handle)
        self.native.ts_client_free(self.state)
        self.handle = self.state = None


class NativeGroupMetadata:
    """Owns a rd_kafka_consumer_group_metadata_t."""

    def __init__(self, client: Client) -> None:
        self._rd = client.rd
        self.pointer = client.rd.rd_kafka_consumer_group_metadata(client.handle)

    def __del__(self) -> None:
        if self.pointer:
            self._rd.rd_kafka_consumer_group_metadata_destroy(self.pointer)


@contextmanager
def partition_list(partitions: Mapping[TopicPartition, int] | Sequence[TopicPartition]) -> Iterator[Any]:
    """A C list of partitions, with offsets where they are given."""
    rd = functions()
    made = rd.rd_kafka_topic_partition_list_new(len(partitions))
    try:
        for tp in partitions:
            added = rd.rd_kafka_topic_partition_list_add(made, tp.topic.encode(), tp.partition)
            if isinstance(partitions, Mapping):
                added.contents.offset = partitions[tp]
        yield made
    finally:
        rd.rd_kafka_topic_partition_list_destroy(made)


def elements(partitions: Any) -> list[tuple[TopicPartition, int, int]]:
    """(partition, offset, error code) of a C list, a pointer or an address."""
    given = ctypes.cast(partitions, POINTER(_List)).contents
    each = (given.elems[i] for i in range(given.cnt))
    return [(TopicPartition(e.topic.decode(), e.partition), e.offset, e.err) for e in each]
