"""What was acknowledged against what the stores hold, by ids and bytes. Pure, so that it can be tested."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field

from tests.faults.load import Sent

_SHOWN = 5


@dataclass(frozen=True)
class Item:
    """One quarantine item as a store holds it."""

    item_id: str
    state: str
    event_id: str | None
    payload: bytes


@dataclass
class Held:
    """What the stores hold of the sources of one load; repeats stand in the lists as often as they are."""

    warehouse: list[str] = field(default_factory=list)
    lake: list[str] = field(default_factory=list)
    silver: list[str] = field(default_factory=list)
    quarantine: list[Item] = field(default_factory=list)
    lake_quarantine: list[Item] = field(default_factory=list)
    """Bronze keeps every record: an item that a door was given twice is in it twice, and here once."""
    lake_places: list[str] = field(default_factory=list)
    """Where each record of the lake's quarantine was read."""


def differences(sent: Sent, held: Held) -> list[str]:
    """Each breach in words; empty where every acknowledged id and payload is where it belongs, once."""
    found: list[str] = []
    for name, ids in (("warehouse", held.warehouse), ("lake", held.lake), ("silver", held.silver)):
        found += _compare(name, sent.gold, ids)
    found += _compare("lake quarantine, records", held.lake_places, held.lake_places)
    for name, items in (("quarantine", held.quarantine), ("lake quarantine", held.lake_quarantine)):
        read = [item.event_id or "" for item in items if item.event_id in sent.refused]
        found += _compare(f"{name}, refused", sent.refused, read)
        found += _compare(f"{name}, bytes", sent.broken, [i.payload for i in items if _broken(i, sent)])
        strange = [i.event_id for i in items if i.event_id not in sent.refused and not _broken(i, sent)]
        if strange:
            found.append(f"{name}: {len(strange)} items that nobody sent broken, as {strange[:_SHOWN]}")
    return found


def _broken(item: Item, sent: Sent) -> bool:
    return item.payload in sent.broken


def _compare(store: str, wanted: Iterable[str | bytes], held: Iterable[str | bytes]) -> list[str]:
    expected, counted = set(wanted), Counter(held)
    trouble = {
        "missing": expected - counted.keys(),
        "unexpected": counted.keys() - expected,
        "more than once": {each for each, times in counted.items() if times > 1},
    }
    return [
        f"{store}: {len(ids)} {what}, as {sorted(ids, key=str)[:_SHOWN]}"
        for what, ids in trouble.items()
        if ids
    ]
