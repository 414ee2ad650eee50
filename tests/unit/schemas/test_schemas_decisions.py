"""A batch of decisions comes back from its bytes as it was."""

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas.decisions import REQUIRED, SCHEMA, DecisionsError, Outcome, pack, unpack

LONG = st.integers(-(2**63), 2**63 - 1)
TEXT = st.text(max_size=40)
ROWS = st.lists(
    st.fixed_dictionaries(
        {
            "offset": LONG,
            "event_id": TEXT,
            "content_hash": TEXT,
            "outcome": st.sampled_from(list(map(int, Outcome))),
            "reason": st.none() | TEXT,
            "load_id": st.none() | TEXT,
            "ingest_ts": LONG,
            "amount_micros": st.none() | LONG,
        }
    ),
    max_size=5,
)
ROW = {
    "offset": 1,
    "event_id": "e",
    "content_hash": "h",
    "outcome": 0,
    "reason": None,
    "load_id": None,
    "ingest_ts": 5,
    "amount_micros": None,
}


@settings(max_examples=50, deadline=None)
@given(ROWS)
def test_unpacked_is_what_was_packed(rows: list[dict[str, object]]) -> None:
    frame = pl.DataFrame(rows, schema=SCHEMA)
    assert unpack(pack(frame)).equals(frame)


def test_columns_may_come_in_any_order_and_with_others() -> None:
    frame = pl.DataFrame([ROW], schema_overrides=SCHEMA)
    shuffled = frame.select(reversed(frame.columns)).with_columns(other=pl.lit(1))
    assert unpack(pack(shuffled)).equals(frame)


@pytest.mark.parametrize("column", REQUIRED)
def test_null_where_nothing_may_be_missing_is_refused(column: str) -> None:
    frame = pl.DataFrame([ROW, {**ROW, column: None}], schema=SCHEMA)
    with pytest.raises(DecisionsError, match=column):
        pack(frame)


def test_missing_column_is_refused() -> None:
    with pytest.raises(DecisionsError, match="lack load_id"):
        pack(pl.DataFrame([ROW], schema=SCHEMA).drop("load_id"))


def test_damaged_bytes_are_refused() -> None:
    packed = pack(pl.DataFrame([ROW], schema=SCHEMA))
    for damaged in (b"", b"junk", packed[8:], packed[:100] + packed[-8:]):
        with pytest.raises(DecisionsError):
            unpack(damaged)


def test_cut_stream_never_reads_as_fewer_decisions() -> None:
    packed = pack(pl.DataFrame([ROW] * 3, schema=SCHEMA))
    for length in range(len(packed)):
        with pytest.raises(DecisionsError):
            unpack(packed[:length])


def test_outcomes_keep_their_numbers() -> None:
    """They are stored in the changelog for ever."""
    assert {outcome.name: int(outcome) for outcome in Outcome} == {
        "ACCEPTED": 0,
        "DUPLICATE": 1,
        "REJECTED": 2,
        "CONFLICT": 3,
        "REROUTED": 4,
        "ACCEPTED_RESOLVING": 5,
    }
