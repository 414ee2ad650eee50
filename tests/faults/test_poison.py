"""A flood of hostile records of all sorts beside good ones."""

from __future__ import annotations

import random
import re
import struct
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.faults.load import Item, framed
from tests.faults.world import World

pytestmark = pytest.mark.long

RECORDS = 100_000
STRETCH = 2_000
# The peak of quality's memory may grow by so much, whatever it is sent.
MEMORY_MIB = 500


def hostile(schema_id: int, source: str, randomness: random.Random) -> list[bytes]:
    """Records that nobody can read, no two the same."""
    good = framed(Item(0).sale(source) | {"event_id": "e", "stock_code": "85123A"}, schema_id)

    def noise(size: int) -> bytes:
        return randomness.randbytes(size)

    sorts: list[Callable[[bytes], bytes]] = [
        lambda tag: tag + noise(randomness.randrange(200)),  # no frame
        lambda tag: good[:5] + b"\xff" * 10 + tag,  # a length beyond all bounds
        lambda tag: good[:5] + noise(80) + tag,  # random bytes in a right frame
        lambda tag: good[:5] + b"\x10" + tag + b"\xff\xfe" + good[15:],  # text that is no UTF-8
        lambda tag: struct.pack(">bI", 0, randomness.choice((0, 987_654_321, 2**31, 2**32 - 1))) + tag,
        lambda tag: struct.pack(">bI", 0, 500_000_000 + randomness.randrange(10**8)) + tag,  # ever new ids
        lambda tag: b"\x07" + good[1:] + tag,  # another magic byte
        lambda tag: b'{"event_id": "' + tag + b'"}',  # JSON
        lambda tag: b"\x00" * (5 + randomness.randrange(60)) + tag,
    ]
    made = []
    for number in range(RECORDS):
        tag = b"%s:%d" % (source.encode(), number)
        # Ever new schema ids are rare: they cost a question to the registry each.
        chosen = sorts[number % len(sorts)] if number % 50 else sorts[5]
        made.append((sorts[4] if chosen is sorts[5] and number % 50 else chosen)(tag))
    # Among them some that are large, and one that is nothing at all.
    made[:20] = [b"%s:large:%d:" % (source.encode(), i) + noise(1 << 20) for i in range(20)]
    assert len(set(made)) == RECORDS
    return made


def test_a_flood_of_hostile_records_is_quarantined_byte_for_byte(world: World) -> None:
    seed = random.SystemRandom().randrange(2**32)
    print(f"seed {seed}")
    with world.fault("poison", recovered_s=300) as load:
        records = hostile(world.raw_schema_id, load.avro.source, random.Random(seed))
        pid = world.pid("quality")
        peak, began = _peak_mib(pid), time.monotonic()
        before = len(load.sent.gold)
        for begin in range(0, len(records), STRETCH):
            load.avro.send_all(records[begin : begin + STRETCH])
        load.sent.broken |= set(records)
        poured = time.monotonic() - began
    assert world.pid("quality") == pid, "it was not killed for its memory, nor ended by what it was sent"
    grown = _peak_mib(pid) - peak
    print(f"{RECORDS} hostile records in {poured:.1f} s; the peak of quality's memory grew by {grown} MiB")
    assert grown < MEMORY_MIB
    assert len(load.sent.gold) > before, "its neighbours went on"


def _peak_mib(pid: int) -> int:
    """The most memory that a process ever had at one time."""
    found = re.search(r"VmHWM:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())
    assert found is not None
    return int(found[1]) // 1024
