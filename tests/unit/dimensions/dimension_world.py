"""Changes and sightings for Hypothesis, and the code under test driven batch by batch."""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import polars as pl
from hypothesis import strategies as st

from enrich_service.countries import CountryTable
from enrich_service.dimensions import revision
from enrich_service.dimensions.members import CUSTOMER, Member
from schemas import avro
from schemas.catalogue import load_topics
from schemas.dimensions import record_key_expr
from schemas.reference import countries
from tests.unit.dimensions.dimension_model import Change, Sighting, Version

COUNTRIES = CountryTable(countries())
BASE = dt.datetime(2010, 12, 1)
NAMES = ("segment", "country")
KEYS = st.sampled_from(["a", "b", "c"])
# Few instants, so that they collide; microseconds apart, so that no rounding passes.
INSTANTS = st.integers(0, 6).map(lambda n: BASE + dt.timedelta(microseconds=n))
ATTRIBUTES = st.tuples(st.sampled_from(["x", "y", None]), st.sampled_from(["EIRE", "France", None]))
CHANGES = st.lists(st.builds(Change, KEYS, INSTANTS, st.just(0), st.none() | ATTRIBUTES), max_size=10).map(
    lambda found: [Change(c.key, c.at, lsn, c.attributes) for lsn, c in enumerate(found, 1)]
)
SIGHTINGS = st.lists(
    st.builds(Sighting, KEYS, INSTANTS, st.sampled_from(["EIRE", "France", None])), max_size=5
)


def columns(member: Member) -> pl.Schema:
    return avro.parse(load_topics()[member.dimension.topic].schema_text).polars


@dataclass
class Builder:
    """Feeds batches to `advance` and keeps what a reader of the topic would."""

    member: Member = CUSTOMER
    versions: pl.DataFrame = field(default_factory=lambda: pl.DataFrame(schema=columns(CUSTOMER)))
    topic: dict[str, dict[str, Any]] = field(default_factory=dict)
    now_ms: int = 1_000
    published: int = 0

    def feed(self, news: Sequence[Change | Sighting]) -> None:
        self.now_ms += 1
        step = revision.advance(
            self.versions,
            changes_frame([each for each in news if isinstance(each, Change)], self.member),
            sightings_frame([each for each in news if isinstance(each, Sighting)], self.member),
            member=self.member,
            countries=COUNTRIES,
            now_ms=self.now_ms,
        )
        self.versions = step.versions
        for key in step.withdrawn.select(record_key_expr(self.member.dimension)).to_series():
            del self.topic[key]
            self._refuse_overlaps()
        keys = step.published.select(record_key_expr(self.member.dimension)).to_series()
        for key, row in zip(keys, step.published.to_dicts(), strict=True):
            self.topic[key] = row
            self._refuse_overlaps()
        self.published += len(step.published)

    def _refuse_overlaps(self) -> None:
        """After every single record, as a reader who stops there would see it."""
        rows = sorted(self.topic.values(), key=lambda row: (row["customer_id"], row["effective_date"]))
        for one, other in pairwise(rows):
            if one["customer_id"] == other["customer_id"]:
                assert one["expiry_date"] is not None
                assert one["expiry_date"] <= other["effective_date"]


def changes_frame(changes: Sequence[Change], member: Member = CUSTOMER) -> pl.DataFrame:
    rows = [
        {member.key: c.key, "at": c.at, "lsn": c.lsn, "deleted": c.attributes is None}
        | dict(zip(NAMES, c.attributes or (None, None), strict=True))
        for c in changes
    ]
    return pl.DataFrame(rows, schema=member.changes) if rows else member.changes.to_frame()


def sightings_frame(sightings: Sequence[Sighting], member: Member = CUSTOMER) -> pl.DataFrame:
    rows = [(s.key, s.at, s.told) for s in sightings]
    return pl.DataFrame(rows, schema=member.sightings, orient="row")


def as_model(frame: pl.DataFrame) -> list[Version]:
    """The versions in the model's terms."""
    return [_version(row) for row in frame.sort("customer_id", "effective_date").to_dicts()]


def _version(row: dict[str, Any]) -> Version:
    restated = [text.removesuffix(":d").split(":") for text in row["restated"]]
    return Version(
        key=row["customer_id"],
        effective=row["effective_date"],
        attributes=None if row["is_inferred"] else tuple(row[name] for name in NAMES),
        expiry=row["expiry_date"],
        current=row["is_current"],
        deleted=row["is_deleted"],
        inferred=row["is_inferred"],
        number=row["version_number"],
        told=row["country"] if row["is_inferred"] else None,
        inferred_from=row["inferred_from"],
        restated=[
            (dt.datetime(1970, 1, 1) + dt.timedelta(microseconds=int(at)), int(lsn)) for at, lsn in restated
        ],
    )
