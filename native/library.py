"""Loading the native library, and its functions' signatures."""

from __future__ import annotations

import ctypes
from ctypes import POINTER, byref, c_char_p, c_int, c_int32, c_int64, c_size_t, c_void_p
from functools import cache
from pathlib import Path

from native import build


class NativeUnavailable(Exception):  # noqa: N818 - reads as what happened
    """The native library cannot be used; the message says why and what to do."""


class Column(ctypes.Structure):
    """Where a column of byte strings lies (`column` in native.h). Keep its arrays alive beside it."""

    _fields_ = (("offsets", c_void_p), ("data", c_void_p), ("valid", c_void_p), ("bit", c_int64))


class Batch(ctypes.Structure):
    """Where the columns of a batch go (`batch` in consume.c)."""

    _fields_ = (
        ("topic", c_void_p),
        ("partition", c_void_p),
        ("offset", c_void_p),
        ("timestamp_ms", c_void_p),
        ("value_offsets", c_void_p),
        ("value", c_void_p),
        ("value_valid", c_void_p),
        ("key_offsets", c_void_p),
        ("key", c_void_p),
        ("key_valid", c_void_p),
        ("header_offsets", c_void_p),
        ("headers", c_void_p),
        ("value_nulls", c_int64),
        ("key_nulls", c_int64),
    )


class Incident(ctypes.Structure):
    """An error or the end of a partition, met among the records (`incident` in client.h)."""

    _fields_ = (
        ("code", c_int32),
        ("topic", c_int32),
        ("partition", c_int32),
        ("_pad", c_int32),
        ("offset", c_int64),
        ("text", ctypes.c_char * 256),
    )


_COLUMN = POINTER(Column)
_INT64 = POINTER(c_int64)
_SIGNATURES: dict[str, tuple[object, list[object]]] = {
    "ts_bind": (c_int, [c_char_p, c_char_p, c_size_t]),
    "ts_client_new": (c_void_p, []),
    "ts_client_free": (None, [c_void_p]),
    "ts_forget": (None, [c_void_p]),
    "ts_notes": (c_int64, [c_void_p, c_char_p, c_size_t, _INT64]),
    "ts_next_rebalance": (c_int, [c_void_p, POINTER(c_int), POINTER(c_void_p)]),
    "ts_next_incident": (c_int, [c_void_p, POINTER(Incident)]),
    "ts_report_new": (c_void_p, []),
    "ts_report_free": (None, [c_void_p]),
    "ts_report_clear": (None, [c_void_p]),
    "ts_report": (None, [c_void_p, _INT64, _INT64, POINTER(c_int)]),
    "ts_transaction_report": (c_void_p, [c_void_p]),
    "ts_hook_consumer": (None, [c_void_p, c_void_p]),
    "ts_hook_producer": (None, [c_void_p, c_void_p]),
    "ts_topic_name": (c_char_p, [c_void_p, c_int32]),
    "ts_gather": (c_int64, [c_void_p, c_void_p, c_int64, c_int64, c_int64, c_int64]),
    "ts_measure": (c_int64, [c_void_p, c_int64, c_int64, _INT64, _INT64, _INT64]),
    "ts_fill": (None, [c_void_p, c_int64, POINTER(Batch)]),
    "ts_holds": (c_int, [c_void_p, c_char_p, c_int32]),
    "ts_drop": (c_int64, [c_void_p, c_char_p, c_int32]),
    "ts_produce": (
        c_int64,
        [
            *[c_void_p, c_void_p, c_int64, c_int64, _COLUMN, _COLUMN, _COLUMN],
            *[c_void_p, c_void_p, c_void_p, c_int64, POINTER(c_int)],
        ],
    ),
    "ts_avro_ids": (None, [_COLUMN, c_int64, c_int64, c_void_p]),
    "ts_avro_decode": (
        c_int64,
        [_COLUMN, c_void_p, c_int64, c_int64, c_void_p, c_int, c_void_p, c_void_p, c_void_p],
    ),
    "ts_avro_room": (c_int64, [c_void_p, c_int, c_int64, c_int64]),
    "ts_avro_encode": (c_int64, [c_void_p, c_int, c_int64, c_char_p, c_int64, c_void_p, c_void_p]),
    "ts_header_find": (c_int64, [_COLUMN, c_void_p, c_int64, c_char_p, c_int64, c_void_p, c_void_p]),
    "ts_slices": (c_int64, [c_void_p, c_void_p, c_void_p, c_int64, c_void_p, c_void_p, c_void_p]),
    "ts_slices_as_integers": (
        None,
        [c_void_p, c_void_p, c_void_p, c_int64, c_int64, c_void_p, c_void_p],
    ),
}


@cache
def load() -> ctypes.CDLL:
    """The native library. Raises `NativeUnavailable`."""
    path = build.target()
    if not path.exists():
        raise NativeUnavailable("it has not been built: python -m native.build")
    try:
        library = ctypes.CDLL(str(path))
    except OSError as error:
        raise NativeUnavailable(f"{path} cannot be loaded: {error}") from error
    for name, (result, arguments) in _SIGNATURES.items():
        function = getattr(library, name)
        function.restype, function.argtypes = result, arguments
    return library


@cache
def load_with_kafka() -> ctypes.CDLL:
    """The native library, bound to the librdkafka of confluent-kafka. Raises `NativeUnavailable`."""
    library = load()
    missing = ctypes.create_string_buffer(256)
    if library.ts_bind(str(librdkafka()).encode(), missing, len(missing)) != 0:
        raise NativeUnavailable(f"{librdkafka()} cannot be used: {missing.value.decode(errors='replace')}")
    return library


@cache
def librdkafka() -> Path:
    """The shared object that confluent-kafka has loaded, be it the wheel's or the system's."""
    import confluent_kafka  # noqa: F401, PLC0415 - loads it

    for line in Path("/proc/self/maps").read_text(encoding="utf-8", errors="replace").splitlines():
        path = line.split(maxsplit=5)[-1]
        if Path(path).name.startswith("librdkafka") and Path(path).is_file():
            return Path(path)
    raise NativeUnavailable("confluent-kafka has no shared librdkafka in this process")


def integers(count: int = 1) -> list[c_int64]:
    """Places for results."""
    return [c_int64() for _ in range(count)]


__all__ = [
    "Batch",
    "Column",
    "Incident",
    "NativeUnavailable",
    "byref",
    "integers",
    "librdkafka",
    "load",
    "load_with_kafka",
]
