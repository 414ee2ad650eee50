"""What quality remembers of an event id, as columns.

An event id is known by its **key**: the first 16 bytes of its SHA-256. Ids come from outside producers, so
the hash must be one for which nobody can make two ids meet: with 128 bits of a cryptographic hash, a
collision by chance needs some 2**64 ids and one on purpose as many attempts. A collision would drop a sale
as a duplicate or refuse it as a conflict; faster hashes with a known seed (xxHash, murmur) are broken in
that sense.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import Any, Final

import numpy as np
import polars as pl
import polars_hash as plh
from numpy.typing import NDArray

KEY_BYTES: Final = 16
KEY: Final = np.dtype("S16")
"""Key of an event id, and a content hash. Numpy strips trailing NULs of an ``S`` item on the way to Python
and pads them again on the way back; comparisons of arrays see all 16 bytes."""

Keys = NDArray[np.bytes_]
Records = NDArray[Any]


class State(IntEnum):
    """Of an event id. NONE: never decided."""

    NONE = 0
    ACCEPTED = 1
    REJECTED = 2


ENTRY: Final = np.dtype(
    [
        ("state", "u1"),
        ("hash", KEY),
        ("offset", "<i8"),
        ("prev_state", "u1"),
        ("prev_hash", KEY),
        ("prev_offset", "<i8"),
    ]
)
"""One event id: its state, the content hash and raw offset of the record that decided it, and the same three
of the committed entry that this one replaced. The previous one is last so that its zeros cost no bytes."""

ENTRY_BYTES: Final = np.dtype(f"S{ENTRY.itemsize}")
"""An entry as stored: numpy leaves out its trailing zeros and pads them again."""

CONFLICT: Final = np.dtype([("offset", "<i8"), ("accepted", "<i8")])
"""One (event id, content hash) quarantined as a conflict: the raw offset of the conflicting record, and of
the accepted record that it contradicts."""

NO_OFFSET: Final = -1


def no_entries(count: int) -> Records:
    return np.zeros(count, dtype=ENTRY)


def no_conflicts(count: int) -> Records:
    """Rows that stand for "never seen": an offset below every record's."""
    rows = np.empty(count, dtype=CONFLICT)
    rows["offset"] = rows["accepted"] = NO_OFFSET
    return rows


def event_keys(event_id: pl.Series) -> Keys:
    """Key of each event id."""
    digest = plh.col("id").chash.sha2_256().str.slice(0, 2 * KEY_BYTES)
    return from_hex(event_id.to_frame("id").select(digest).to_series())


def from_hex(digits: pl.Series) -> Keys:
    """16 bytes from each text of 32 hex digits; the series has no null."""
    binary = digits.str.decode("hex").to_arrow(compat_level=pl.CompatLevel.oldest())
    if len(binary) == 0:
        return np.empty(0, dtype=KEY)
    first, data = binary.offset, binary.buffers()[2]
    start = int(np.frombuffer(binary.buffers()[1], dtype=np.int64)[first])
    return np.frombuffer(data, dtype=KEY, count=len(binary), offset=start)


@dataclass(frozen=True, slots=True)
class Writes:
    """Entries to store for one partition. `keys` ascend and are unique; `entries` aligns with them.

    `conflict_keys` are event id's key and content hash joined (32 bytes); `conflicts` aligns with them.
    """

    keys: Keys
    entries: Records
    conflict_keys: Keys
    conflicts: Records

    @classmethod
    def none(cls) -> Writes:
        return cls(
            np.empty(0, KEY), no_entries(0), np.empty(0, f"S{2 * KEY_BYTES}"), np.empty(0, dtype=CONFLICT)
        )


def conflict_keys(keys: Keys, hashes: Keys) -> Keys:
    """Keys of the conflict space: 32 bytes each."""
    pair = np.empty(len(keys), dtype=[("key", KEY), ("hash", KEY)])
    pair["key"], pair["hash"] = keys, hashes
    joined: Keys = pair.view(f"S{2 * KEY_BYTES}")
    return joined
