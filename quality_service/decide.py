"""The decision table: what becomes of a record, given what is remembered of its event id.

| remembered of the id | record | outcome | remembered after |
| --- | --- | --- | --- |
| nothing | valid | ACCEPTED | accepted, this hash |
| nothing | invalid | REJECTED | rejected, this hash |
| accepted, same hash | any | DUPLICATE | unchanged |
| accepted, other hash, seen as a conflict | any | DUPLICATE | unchanged |
| accepted, other hash | any | CONFLICT | unchanged, and this hash as a conflict |
| rejected | valid | ACCEPTED_RESOLVING | accepted, this hash |
| rejected, same hash | invalid | DUPLICATE | unchanged |
| rejected, other hash | invalid | REJECTED | rejected, this hash |

Everything here is a pure function of arrays. A batch holds the records of one partition in offset order.
Ids that occur once in it are decided as columns; those that repeat, one after the other by `decide_one`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from typing import Final

import numpy as np
from numpy.typing import NDArray

from quality_service.entries import (
    CONFLICT,
    ENTRY,
    NO_OFFSET,
    Keys,
    Records,
    State,
    Writes,
    conflict_keys,
    no_entries,
)
from schemas.decisions import Outcome

Bools = NDArray[np.bool_]
Offsets = NDArray[np.int64]


def decide_one(state: State, *, same_hash: bool, known_conflict: bool, valid: bool) -> Outcome:
    """One row of the table above."""
    if state == State.ACCEPTED:
        return Outcome.DUPLICATE if same_hash or known_conflict else Outcome.CONFLICT
    if valid:
        return Outcome.ACCEPTED_RESOLVING if state == State.REJECTED else Outcome.ACCEPTED
    return Outcome.DUPLICATE if state == State.REJECTED and same_hash else Outcome.REJECTED


def _table() -> NDArray[np.uint8]:
    table = np.empty((len(State), 2, 2, 2), dtype=np.uint8)
    for state, same, known, valid in product(State, (0, 1), (0, 1), (0, 1)):
        table[state, same, known, valid] = decide_one(
            state, same_hash=bool(same), known_conflict=bool(known), valid=bool(valid)
        )
    return table


_TABLE: Final = _table()
# What a deciding outcome makes of the id; NONE leaves it as it was.
_STATE_AFTER: Final = np.zeros(len(Outcome), dtype=np.uint8)
_STATE_AFTER[[Outcome.ACCEPTED, Outcome.ACCEPTED_RESOLVING]] = State.ACCEPTED
_STATE_AFTER[Outcome.REJECTED] = State.REJECTED


@dataclass(frozen=True, slots=True)
class Candidates:
    """Records of one partition to decide, in offset order, grouped by id.

    `key` and `hash` are 16 bytes each. `order` sorts the rows by key and keeps the offset order within one;
    `first` are the positions in `order` where a new key begins; `group` is the group of each row.
    """

    key: Keys
    hash: Keys
    offset: Offsets
    order: NDArray[np.intp]
    first: NDArray[np.intp]
    group: NDArray[np.intp]

    @classmethod
    def of(cls, key: Keys, hash_: Keys, offset: Offsets) -> Candidates:
        halves = key.view(">u8").reshape(-1, 2)
        order = np.lexsort((halves[:, 1], halves[:, 0]))
        in_order = key[order]
        begins = np.ones(len(key), dtype=bool)
        begins[1:] = in_order[1:] != in_order[:-1]
        group = np.empty(len(key), dtype=np.intp)
        group[order] = np.cumsum(begins) - 1
        return cls(key, hash_, offset, order, np.flatnonzero(begins), group)

    def __len__(self) -> int:
        return len(self.key)

    def keys(self) -> Keys:
        """Each key once, ascending: what to look up."""
        return self.key[self.order[self.first]]

    def first_offset(self) -> Offsets:
        """Offset of the first record of each group."""
        return self.offset[self.order[self.first]]


@dataclass(frozen=True, slots=True)
class Remembered:
    """What counts of the entries looked up, one row per group of the candidates.

    `entry` is a column of ENTRY without those of aborted attempts; `stale` says where one was left out.
    """

    entry: Records
    stale: Bools


def effective(looked_up: Records, first_offset: Offsets) -> Remembered:
    """Leave out what an aborted attempt wrote: an entry decided by this record or a later one.

    Such an attempt was synced to the local store, and then its Kafka transaction did not commit. The entry
    that it replaced counts instead.
    """
    stale = (looked_up["state"] != State.NONE) & (looked_up["offset"] >= first_offset)
    if not stale.any():
        return Remembered(looked_up, stale)
    entry = looked_up.copy()
    entry["state"][stale] = looked_up["prev_state"][stale]
    entry["hash"][stale] = looked_up["prev_hash"][stale]
    entry["offset"][stale] = looked_up["prev_offset"][stale]
    for field in ("prev_state", "prev_hash", "prev_offset"):
        entry[field][stale] = no_entries(1)[field]
    return Remembered(entry, stale)


def contradicting(rows: Candidates, remembered: Remembered) -> NDArray[np.intp]:
    """Rows whose id was accepted with another hash: the only ones whose conflict must be looked up."""
    entry = remembered.entry[rows.group]
    return np.flatnonzero((entry["state"] == State.ACCEPTED) & (entry["hash"] != rows.hash))


def known_conflicts(
    rows: Candidates, remembered: Remembered, asked: NDArray[np.intp], found: Records
) -> Bools:
    """Whether each row repeats a conflict. `found` are the rows of CONFLICT for the rows `asked`.

    One counts when it is below the record (else it is from an aborted attempt) and was about the record
    that is accepted now (else that acceptance was undone).
    """
    known = np.zeros(len(rows), dtype=bool)
    accepted = remembered.entry["offset"][rows.group[asked]]
    known[asked] = (found["offset"] != NO_OFFSET) & (found["offset"] < rows.offset[asked])
    known[asked] &= found["accepted"] == accepted
    return known


@dataclass(frozen=True, slots=True)
class Outcomes:
    """`outcome` of each row; `resolves` is the offset of the rejected record whose open quarantine item the
    row resolves, or NO_OFFSET."""

    outcome: NDArray[np.uint8]
    resolves: Offsets


def decide(rows: Candidates, remembered: Remembered, known_conflict: Bools, valid: Bools) -> Outcomes:
    """The outcome of each row."""
    entry = remembered.entry[rows.group]
    same = entry["hash"] == rows.hash
    outcome = _TABLE[entry["state"], same.view(np.uint8), known_conflict.view(np.uint8), valid.view(np.uint8)]
    resolves = np.where(outcome == Outcome.ACCEPTED_RESOLVING, entry["offset"], NO_OFFSET)
    sizes = np.diff(rows.first, append=len(rows))
    for group in np.flatnonzero(sizes > 1).tolist():
        begin = rows.first[group]
        members = rows.order[begin : begin + sizes[group]].tolist()
        given = [
            (bytes(rows.hash[i]), int(rows.offset[i]), bool(known_conflict[i]), bool(valid[i]))
            for i in members
        ]
        outcome[members], resolves[members] = _decide_in_turn(remembered.entry[group], given)
    return Outcomes(outcome, resolves)


def _decide_in_turn(
    entry: np.void, records: Sequence[tuple[bytes, int, bool, bool]]
) -> tuple[list[Outcome], list[int]]:
    """Decide records of one id in offset order, each on what the one before left.

    `records` are (hash, offset, known conflict, valid); the answer is `Outcomes`, as lists.
    """
    state, hash_, offset = State(int(entry["state"])), bytes(entry["hash"]), int(entry["offset"])
    conflicts: set[bytes] = set()
    outcomes, resolves = [], []
    for own, at, known, valid in records:
        known_now = known or own in conflicts
        outcome = decide_one(state, same_hash=own == hash_, known_conflict=known_now, valid=valid)
        outcomes.append(outcome)
        resolves.append(offset if outcome == Outcome.ACCEPTED_RESOLVING else NO_OFFSET)
        if outcome == Outcome.CONFLICT:
            conflicts.add(own)
        after = State(int(_STATE_AFTER[outcome]))
        if after != State.NONE:
            state, hash_, offset = after, own, at
    return outcomes, resolves


def writes(rows: Candidates, remembered: Remembered, outcome: NDArray[np.uint8]) -> Writes:
    """The entries that follow from the outcomes: those of a live batch, or of a changelog being restored."""
    entries, changed = _entries_after(rows, remembered, outcome)
    contradicts = np.flatnonzero(outcome == Outcome.CONFLICT)
    pairs = conflict_keys(rows.key[contradicts], rows.hash[contradicts])
    found = np.empty(len(contradicts), dtype=CONFLICT)
    found["offset"] = rows.offset[contradicts]
    # An accepted entry is never replaced, so the one after the batch is the one each row contradicted.
    found["accepted"] = entries["offset"][rows.group[contradicts]]
    in_order = np.argsort(pairs, kind="stable")
    return Writes(rows.keys()[changed], entries[changed], pairs[in_order], found[in_order])


def _entries_after(
    rows: Candidates, remembered: Remembered, outcome: NDArray[np.uint8]
) -> tuple[Records, Bools]:
    """The entry of each group after the batch, and whether it has to be written."""
    after = _STATE_AFTER[outcome][rows.order]
    # Position of the last deciding row of each group; -1 where none decided.
    place = np.where(after != State.NONE, np.arange(len(rows)), -1)
    last = np.maximum.reduceat(place, rows.first) if len(rows) else place
    decided = last >= rows.first
    # Where no row decided, an entry of an aborted attempt is put back to what it had replaced.
    entries = remembered.entry.copy()
    changed = decided | (remembered.stale & (remembered.entry["state"] != State.NONE))
    row = rows.order[last[decided]]
    new = np.zeros(len(row), dtype=ENTRY)
    new["state"], new["hash"], new["offset"] = after[last[decided]], rows.hash[row], rows.offset[row]
    old = remembered.entry[decided]
    new["prev_state"], new["prev_hash"], new["prev_offset"] = old["state"], old["hash"], old["offset"]
    entries[decided] = new
    return entries, changed
