"""The decision table, as columns and one by one, over batches, aborted attempts and restarts."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from quality_service import decide
from quality_service.entries import NO_OFFSET, Records, State
from quality_service.lmdb_store import LmdbStores
from quality_service.restore import OffsetsMovedBack
from quality_service.state import IdState
from quality_service.store import StoreError
from schemas.decisions import Outcome
from tests.unit.quality_service.quality_model import GAP, PARTITION, TP, Model, Play, Raw, expected

MOVES: dict[str, Callable[[Play, int], None]] = {
    "commit": Play.commit,
    "abort before sync": Play.abort_before_sync,
    "abort after sync": Play.abort_after_sync,
    "crash after sync": Play.crash_after_sync,
    "crash before after_commit": Play.crash_before_after_commit,
    "restart": lambda play, _: play.restart(),
    "lose disk": lambda play, _: play.lose_disk(),
    "elsewhere": Play.elsewhere,
}
# Few ids and contents, so that every pair of rows of the table meets.
raws = st.builds(Raw, st.sampled_from("abc"), st.sampled_from("xyz"), st.booleans())
logs = st.lists(raws, max_size=40)
moves = st.lists(st.tuples(st.sampled_from(sorted(MOVES)), st.integers(1, 12)), max_size=25)


def finish(play: Play) -> None:
    while len(play.decided) < len(play.log):
        play.commit(7)


@settings(max_examples=300, deadline=None)
@given(logs, moves)
def test_every_split_abort_and_restart_decides_as_one_record_after_the_other(
    log: list[Raw], story: list[tuple[str, int]]
) -> None:
    play = Play(log)
    for name, count in story:
        MOVES[name](play, count)
    finish(play)
    assert play.decided == expected(log)


@settings(max_examples=100, deadline=None)
@given(logs, moves)
def test_restored_state_is_the_original_state(log: list[Raw], story: list[tuple[str, int]]) -> None:
    play = Play(log)
    for name, count in story:
        MOVES[name](play, count)
    finish(play)
    original = play.remembered()
    play.lose_disk()
    assert play.remembered() == original


@settings(max_examples=15, deadline=None)
@given(
    log=st.lists(raws, min_size=5, max_size=30),
    story=st.lists(
        st.tuples(
            st.sampled_from(["commit", "abort after sync", "crash after sync", "restart"]), st.integers(1, 9)
        ),
        max_size=6,
    ),
)
def test_durable_store_decides_as_one_record_after_the_other(
    tmp_path_factory: pytest.TempPathFactory, log: list[Raw], story: list[tuple[str, int]]
) -> None:
    root: Path = tmp_path_factory.mktemp("ids")
    play = Play(log, LmdbStores(root, max_bytes=1 << 24))
    for name, count in story:
        MOVES[name](play, count)
    finish(play)
    assert play.decided == expected(log)
    play.state.close()


class Forgetful(IdState):
    """Sabotage: no deduplication."""

    def before_commit(self, next_offsets: object) -> None:
        return None


def test_a_state_that_remembers_nothing_is_caught() -> None:
    log = [Raw("a", "x", True), Raw("a", "x", True)]
    play = Play(log)
    play.state = Forgetful(
        "sales.raw.v1", "AbCdEfGhIjKlMnOpQrStUv", play.stores, play.changelog, play.state._clock
    )
    play.state.assigned({TP: None})
    play.commit(1)
    play.commit(1)
    assert play.decided != expected(log)


def test_a_state_that_believes_aborted_attempts_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    def believe(looked_up: Records, first_offset: object) -> decide.Remembered:
        return decide.Remembered(looked_up, np.zeros(len(looked_up), dtype=bool))

    monkeypatch.setattr(decide, "effective", believe)
    log = [Raw("a", "x", True)]
    play = Play(log)
    play.abort_after_sync(1)
    play.commit(1)
    assert play.decided != expected(log)


@pytest.mark.parametrize(
    ("log", "outcomes"),
    [
        ([Raw("a", "x", True)], [Outcome.ACCEPTED]),
        ([Raw("a", "x", False)], [Outcome.REJECTED]),
        ([Raw("a", "x", True), Raw("a", "x", True)], [Outcome.ACCEPTED, Outcome.DUPLICATE]),
        ([Raw("a", "x", True), Raw("a", "y", True)], [Outcome.ACCEPTED, Outcome.CONFLICT]),
        # A conflict comes before any other rule.
        ([Raw("a", "x", True), Raw("a", "y", False)], [Outcome.ACCEPTED, Outcome.CONFLICT]),
        (
            [Raw("a", "x", True), Raw("a", "y", True), Raw("a", "y", True), Raw("a", "x", True)],
            [Outcome.ACCEPTED, Outcome.CONFLICT, Outcome.DUPLICATE, Outcome.DUPLICATE],
        ),
        ([Raw("a", "x", False), Raw("a", "x", False)], [Outcome.REJECTED, Outcome.DUPLICATE]),
        ([Raw("a", "x", False), Raw("a", "y", False)], [Outcome.REJECTED, Outcome.REJECTED]),
        ([Raw("a", "x", False), Raw("a", "y", True)], [Outcome.REJECTED, Outcome.ACCEPTED_RESOLVING]),
        # The same content, once the clock or a rule lets it pass.
        ([Raw("a", "x", False), Raw("a", "x", True)], [Outcome.REJECTED, Outcome.ACCEPTED_RESOLVING]),
    ],
)
@pytest.mark.parametrize("size", [1, 10])
def test_table(log: list[Raw], outcomes: list[Outcome], size: int) -> None:
    play = Play(log)
    for _ in log:
        play.commit(size)
    assert [outcome for outcome, _ in play.decided] == outcomes


def test_acceptance_names_the_rejected_record_that_it_resolves() -> None:
    log = [Raw("a", "x", False), Raw("b", "x", False), Raw("a", "y", False), Raw("a", "z", True)]
    play = Play(log)
    play.commit(2)
    play.commit(2)
    assert play.decided[-1] == (Outcome.ACCEPTED_RESOLVING, 2 * GAP)
    assert [resolves for _, resolves in play.decided[:-1]] == [NO_OFFSET] * 3


def test_aborted_attempt_leaves_no_trace_in_what_is_decided() -> None:
    play = Play([Raw("a", "x", True), Raw("a", "y", True)])
    play.abort_after_sync(2)
    play.commit(2)
    assert [outcome for outcome, _ in play.decided] == [Outcome.ACCEPTED, Outcome.CONFLICT]


def test_group_offset_below_the_last_batch_refuses_to_start() -> None:
    play = Play([Raw(str(i), "x", True) for i in range(9)])
    for _ in range(3):
        play.commit(3)
    play.committed = 1
    with pytest.raises(OffsetsMovedBack, match="committed offset is 1"):
        play.restart()


def test_lost_group_offset_refuses_to_start() -> None:
    play = Play([Raw(str(i), "x", True) for i in range(9)])
    play.commit(3)
    play.commit(3)
    play.committed = None
    with pytest.raises(OffsetsMovedBack, match="committed offset is none"):
        play.restart()


def test_lost_group_offset_refuses_to_start_without_a_local_store_too() -> None:
    play = Play([Raw(str(i), "x", True) for i in range(9)])
    play.commit(3)
    play.committed = None
    with pytest.raises(OffsetsMovedBack, match="decisions are committed up to"):
        play.lose_disk()


def test_first_batch_aborted_starts_again() -> None:
    play = Play([Raw("a", "x", True)])
    play.crash_after_sync(1)
    play.commit(1)
    assert play.decided == [(Outcome.ACCEPTED, NO_OFFSET)]


def test_changelog_that_ends_before_the_committed_offset_refuses_to_start() -> None:
    play = Play([Raw(str(i), "x", True) for i in range(9)])
    play.commit(3)
    play.commit(3)
    play.changelog.batches.pop()
    with pytest.raises(StoreError, match="lost records"):
        play.lose_disk()


def test_two_decisions_in_one_transaction_are_refused() -> None:
    play = Play([Raw("a", "x", True), Raw("b", "x", True)])
    play.attempt(1)
    with pytest.raises(RuntimeError, match="twice"):
        play.attempt(1)


def test_a_thousand_repeats_of_one_id_are_decided_in_turn() -> None:
    rng = np.random.default_rng(3)
    log = [Raw("a", f"c{rng.integers(50)}", bool(rng.random() < 0.01)) for _ in range(1000)]
    play = Play(log)
    play.commit(1000)
    assert play.decided == expected(log)


def test_model_and_states_agree_on_what_is_remembered() -> None:
    log = [Raw("a", "x", True), Raw("b", "x", False), Raw("a", "y", True)]
    play = Play(log)
    play.commit(3)
    model = Model()
    for place, raw in enumerate(log):
        model.decide(raw, place * GAP)
    found = play.remembered()
    assert {e for e, (state, _, _) in found.items() if state == State.ACCEPTED} == set(model.accepted)
    assert {e for e, (state, _, _) in found.items() if state == State.REJECTED} == set(model.rejected)
    assert TP.partition == PARTITION
