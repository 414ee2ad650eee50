"""The heartbeat: an event of the platform's own that goes the way of a sale and is none.

It is accepted over HTTP, validated and enriched like any sale, so that it meets every queue and commit on
the way; each store recognises it by its id, notes how old it is, and leaves it out (docs/adr/0007). Ingest
keeps the prefix from everybody else. Its invoice number is its id, so that a record's key says what it is.
"""

from __future__ import annotations

from typing import Final

import polars as pl

PREFIX: Final = "tillstream.heartbeat/"
"""Ids, and with them the keys of Kafka records, that begin so are heartbeats."""

SOURCE: Final = "tillstream.heartbeat"


def event_id(now_ms: int) -> str:
    """`now_ms`: ms since 1970 UTC; two heartbeats of one millisecond would be one."""
    return f"{PREFIX}{now_ms}"


def is_heartbeat(column: str = "event_id") -> pl.Expr:
    """Whether each id is a heartbeat's; false where it is null."""
    return pl.col(column).str.starts_with(PREFIX).fill_null(False)
