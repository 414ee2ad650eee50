"""The history of one member in plain Python, written from the definition and not from the code under test."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

FIRST = dt.datetime(1900, 1, 1)


@dataclass(frozen=True)
class Change:
    """`attributes` is None for a deletion."""

    key: str
    at: dt.datetime
    lsn: int
    attributes: tuple[Any, ...] | None


@dataclass(frozen=True)
class Sighting:
    key: str
    at: dt.datetime
    told: str | None


@dataclass
class Version:
    key: str
    effective: dt.datetime
    attributes: tuple[Any, ...] | None
    expiry: dt.datetime | None = None
    current: bool = False
    deleted: bool = False
    inferred: bool = False
    number: int = 1
    told: str | None = None
    inferred_from: dt.datetime | None = None
    restated: list[tuple[dt.datetime, int]] = field(default_factory=list)


def histories(changes: Iterable[Change], sightings: Iterable[Sighting]) -> list[Version]:
    """By key and effective date, whatever the order of what is given."""
    by_key: dict[str, dict[dt.datetime, Change]] = {}
    seen: dict[str, list[Sighting]] = {}
    for change in changes:
        instants = by_key.setdefault(change.key, {})
        known = instants.get(change.at)
        if known is None or change.lsn > known.lsn:
            instants[change.at] = change
    for sighting in sightings:
        seen.setdefault(sighting.key, []).append(sighting)
    versions: list[Version] = []
    for key in sorted(by_key.keys() | seen.keys()):
        own = [by_key[key][at] for at in sorted(by_key[key])] if key in by_key else []
        versions += _member(key, own, seen.get(key, []))
    return versions


def _member(key: str, changes: Sequence[Change], sightings: Sequence[Sighting]) -> list[Version]:
    versions: list[Version] = []
    leading: list[Change] = []
    for change in changes:
        last = versions[-1] if versions else None
        if change.attributes is None:
            if last is None:
                leading.append(change)
            elif last.deleted:
                last.restated.append((change.at, change.lsn))
            else:
                last.deleted, last.expiry = True, change.at
        elif last is None or last.deleted or last.attributes != change.attributes:
            if last is not None and not last.deleted:
                last.expiry = change.at
            versions.append(Version(key, change.at, change.attributes, number=len(versions) + 1))
        else:
            last.restated.append((change.at, change.lsn))
    if not versions:
        return [_inferred(key, leading, sightings)]
    versions[0].effective = FIRST
    versions[0].restated = [(c.at, c.lsn) for c in leading] + versions[0].restated
    versions[-1].current = not versions[-1].deleted
    return versions


def _inferred(key: str, deletions: Sequence[Change], sightings: Sequence[Sighting]) -> Version:
    version = Version(key, FIRST, None, inferred=True)
    if deletions:
        version.deleted, version.expiry = True, deletions[0].at
        version.restated = [(c.at, c.lsn) for c in deletions[1:]]
    version.current = not version.deleted
    telling = [(s.at, s.told) for s in sightings if s.told is not None]
    # What sales say counts only of a member of which nothing else is known.
    if telling and not deletions:
        version.inferred_from, version.told = min(telling)
    return version
