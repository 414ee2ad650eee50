"""Hash functions that must agree with those of other systems: Kafka's murmur2 and xxHash64."""

import struct
from collections.abc import Sequence
from itertools import accumulate
from typing import Final

import numpy as np
import numpy.typing as npt
import polars as pl

_MURMUR_M: Final = np.uint32(0x5BD1E995)
_MURMUR_SEED: Final = 0x9747B28C
_LONG_KEY: Final = 1024
_MASK32: Final = (1 << 32) - 1
_MASK64: Final = (1 << 64) - 1
_P1: Final = 0x9E3779B185EBCA87
_P2: Final = 0xC2B2AE3D27D4EB4F
_P3: Final = 0x165667B19E3779F9
_P4: Final = 0x85EBCA77C2B2AE63
_P5: Final = 0x27D4EB2F165667C5


def murmur2_partition(keys: Sequence[bytes | None], partitions: int) -> npt.NDArray[np.int32]:
    """Partition of each key as Java's default partitioner computes it; -1 for a null key.

    Kafka: ``Utils.toPositive(Utils.murmur2(key)) % partitions``. A key that is empty has a partition.
    """
    sizes = [0 if key is None else len(key) for key in keys]
    offsets = np.fromiter(accumulate(sizes, initial=0), dtype=np.int64, count=len(sizes) + 1)
    data = np.frombuffer(b"".join(key for key in keys if key is not None), dtype=np.uint8)
    result = _to_partition(_murmur2(data, offsets), partitions)
    absent = [position for position, key in enumerate(keys) if key is None]
    result[absent] = -1
    return result


def murmur2_partition_series(keys: pl.Series, partitions: int) -> npt.NDArray[np.int32]:
    """:func:`murmur2_partition` of a String column (as UTF-8) without a Python object per key."""
    filled = keys.fill_null("")
    lengths = filled.str.len_bytes().to_numpy().astype(np.int64)
    offsets = np.concatenate([np.zeros(1, dtype=np.int64), np.cumsum(lengths)])
    joined = filled.str.join("").item() if len(filled) else ""
    data = np.frombuffer(joined.encode(), dtype=np.uint8)
    result = _to_partition(_murmur2(data, offsets), partitions)
    result[keys.is_null().to_numpy()] = -1
    return result


def _to_partition(hashes: npt.NDArray[np.uint32], partitions: int) -> npt.NDArray[np.int32]:
    positive = hashes & np.uint32(0x7FFFFFFF)
    return (positive % np.uint32(partitions)).astype(np.int32)


def _murmur2(data: npt.NDArray[np.uint8], offsets: npt.NDArray[np.int64]) -> npt.NDArray[np.uint32]:
    """murmur2 of ``data[offsets[i]:offsets[i + 1]]`` for each i; keys of one length go together."""
    lengths = np.diff(offsets)
    result = np.zeros(len(lengths), dtype=np.uint32)
    for length in map(int, np.unique(lengths)):
        rows = np.flatnonzero(lengths == length)
        if length > _LONG_KEY:
            result[rows] = [_murmur2_long(data[offsets[row] : offsets[row + 1]].tobytes()) for row in rows]
        else:
            result[rows] = _murmur2_block(data[offsets[rows, None] + np.arange(length)], length)
    return result


def _murmur2_long(key: bytes) -> int:
    """murmur2 of one long key: a numpy call for each of its words would take ten times as long."""
    multiplier = int(_MURMUR_M)
    whole = len(key) // 4
    state = _MURMUR_SEED ^ len(key)
    for word in struct.unpack_from(f"<{whole}I", key):
        mixed = word * multiplier & _MASK32
        mixed = (mixed ^ mixed >> 24) * multiplier
        state = (state * multiplier ^ mixed) & _MASK32
    if tail := key[whole * 4 :]:
        state = (state ^ int.from_bytes(tail, "little")) * multiplier & _MASK32
    state = (state ^ state >> 13) * multiplier & _MASK32
    return state ^ state >> 15


def _murmur2_block(block: npt.NDArray[np.uint8], length: int) -> npt.NDArray[np.uint32]:
    """murmur2 of each row of a (keys, length) matrix. uint32 arrays wrap around as Java's int does."""
    whole = length // 4
    words = np.ascontiguousarray(block[:, : whole * 4]).view("<u4")
    state = np.full(len(block), _MURMUR_SEED ^ length, dtype=np.uint32)
    for column in range(whole):
        word = words[:, column] * _MURMUR_M
        word ^= word >> np.uint32(24)
        state = state * _MURMUR_M ^ word * _MURMUR_M
    if tail := length % 4:
        for place in range(tail):
            state ^= block[:, whole * 4 + place].astype(np.uint32) << np.uint32(8 * place)
        state = state * _MURMUR_M
    state ^= state >> np.uint32(13)
    state = state * _MURMUR_M
    return state ^ (state >> np.uint32(15))


def xxhash64(data: bytes) -> int:
    """xxHash64 with seed 0, unsigned. Reference: github.com/Cyan4973/xxHash, doc/xxhash_spec.md."""
    position, size = 0, len(data)
    if size >= 32:
        lanes = [(_P1 + _P2) & _MASK64, _P2, 0, -_P1 & _MASK64]
        while position <= size - 32:
            for lane in range(4):
                word = int.from_bytes(data[position + 8 * lane : position + 8 * lane + 8], "little")
                lanes[lane] = _round(lanes[lane], word)
            position += 32
        state = sum(map(_rotate, lanes, (1, 7, 12, 18))) & _MASK64
        for lane in lanes:
            state = ((state ^ _round(0, lane)) * _P1 + _P4) & _MASK64
    else:
        state = _P5
    state = (state + size) & _MASK64
    return _avalanche(_tail(state, data[position:]))


def _tail(state: int, rest: bytes) -> int:
    while len(rest) >= 8:
        state ^= _round(0, int.from_bytes(rest[:8], "little"))
        state = (_rotate(state, 27) * _P1 + _P4) & _MASK64
        rest = rest[8:]
    if len(rest) >= 4:
        state ^= (int.from_bytes(rest[:4], "little") * _P1) & _MASK64
        state = (_rotate(state, 23) * _P2 + _P3) & _MASK64
        rest = rest[4:]
    for byte in rest:
        state ^= (byte * _P5) & _MASK64
        state = (_rotate(state, 11) * _P1) & _MASK64
    return state


def _avalanche(state: int) -> int:
    state = ((state ^ (state >> 33)) * _P2) & _MASK64
    state = ((state ^ (state >> 29)) * _P3) & _MASK64
    return state ^ (state >> 32)


def _round(state: int, word: int) -> int:
    return (_rotate((state + word * _P2) & _MASK64, 31) * _P1) & _MASK64


def _rotate(value: int, bits: int) -> int:
    return ((value << bits) | (value >> (64 - bits))) & _MASK64
