"""Every fault that the rules know, in random mixture: each event is exactly where a plain oracle says."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import HealthCheck, given, note, settings
from hypothesis import strategies as st

from deploy.micro.chain import Chain
from schemas.contract import load_contract
from streamkit.clock import FakeClock
from tests.property import fault_oracle
from tests.property.fault_oracle import COUNTRIES, FAULTS, NOW, Oracle, event, mixture

FEW = settings(deadline=None, max_examples=8, suppress_health_check=[HealthCheck.too_slow])
ONE = st.builds(
    event,
    st.integers(0, 9),
    st.lists(st.sampled_from(sorted(FAULTS)), max_size=4, unique=True),
    st.integers(1, 2),
    st.sampled_from(sorted(COUNTRIES)),
)


@pytest.fixture(scope="module")
def chain() -> Chain:
    return Chain(FakeClock(int(NOW.timestamp() * 1000)))


def check(chain: Chain, events: list[bytes], part: int = 5_000) -> None:
    """Post them in parts, and compare what came out with what the oracle says, by ids and reasons."""
    chain.reset()
    oracle = Oracle()
    for begin in range(0, len(events), part):
        bodies = events[begin : begin + part]
        chain.post(b"[" + b",".join(bodies) + b"]")
        chain.drain()
        for body in bodies:
            oracle.post(body)
    good = chain.good().select("event_id", "warnings", "quality_score").rows()
    assert Counter(row[0] for row in good) == Counter(oracle.expected.good.keys())
    assert {row[0]: (tuple(row[1]), row[2]) for row in good} == oracle.expected.good
    bad = chain.bad()
    refused = bad.filter(stage="quality").select("event_id", "reason", "rules").rows()
    assert Counter((e, reason, tuple(rules)) for e, reason, rules in refused) == oracle.expected.refused
    unreadable = bad.filter(stage="ingest")
    assert Counter(unreadable["payload"].to_list()) == oracle.expected.unreadable
    assert set(unreadable["reason"]) <= {"UNDECODABLE"}


@FEW
@given(st.lists(ONE, max_size=40), st.sampled_from([8, 40]))
def test_few_events_of_few_ids_end_where_the_oracle_says(
    chain: Chain, events: list[bytes], part: int
) -> None:
    check(chain, events, part)


@settings(deadline=None, max_examples=1)
@given(st.integers(0, 2**32))
def test_thousands_of_events_end_where_the_oracle_says(chain: Chain, seed: int) -> None:
    note(f"seed {seed}")
    check(chain, mixture(seed, 2_000), part=700)


@pytest.mark.long
@settings(deadline=None, max_examples=10)
@given(st.integers(0, 2**32))
def test_200_000_events_end_where_the_oracle_says(chain: Chain, seed: int) -> None:
    note(f"seed {seed}")
    check(chain, mixture(seed, 20_000))


def test_the_mixture_meets_every_rule_of_the_contract() -> None:
    oracle = Oracle()
    for body in mixture(1, 5_000):
        oracle.post(body)
    contract = load_contract()
    rules = {rule for _, _, found in oracle.expected.refused for rule in found} | {"UNDECODABLE"}
    assert rules == {rule.id for rule in contract.reject}
    warned = {rule for found, _ in oracle.expected.good.values() for rule in found}
    assert warned == {rule.id for rule in contract.warn}


def test_an_event_in_the_wrong_place_is_noticed(chain: Chain, monkeypatch: pytest.MonkeyPatch) -> None:
    """Sabotage: an oracle that does not know of empty quantities."""
    events = [event(1, ["ZERO_QUANTITY"], 1, "EIRE"), event(2, [], 1, "EIRE")]
    check(chain, events)
    monkeypatch.setattr(fault_oracle, "rejecting", lambda sale: [])
    with pytest.raises(AssertionError):
        check(chain, events)
