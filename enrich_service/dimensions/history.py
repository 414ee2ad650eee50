"""From what is known of members to their versions (slowly changing dimension, type 2). Pure.

A history is a function of the *set* of changes: of those that begin at one instant the one with the highest
log position counts, and then

    a change that differs from the one before it    opens a version
    a deletion of a member that exists              closes the version before it
    anything else                                   is a restatement of the version it falls into

So neither the order of arrival nor a repetition matters, and a change that arrives late takes its place in
the past. Versions hold all that the set needs to be had back (`changes_of`): restatements too, because a
late change may fall between a version's beginning and one of them.

The first version begins at 1900-01-01 whenever its change begins. A member that only sales have named, or of
which nothing but a deletion is known, has one inferred version.
"""

from __future__ import annotations

import datetime as dt
from typing import Final

import polars as pl

from enrich_service.dimensions.members import INSTANT, Member

FIRST: Final = dt.datetime(1900, 1, 1)
LAST: Final = dt.datetime(9999, 12, 31, 23, 59, 59)
_DELETED: Final = ":d"


def changes_of(versions: pl.DataFrame, member: Member) -> pl.DataFrame:
    """The set of changes that the versions were made of, one row for each instant of a member."""
    opened = versions.filter(pl.col("valid_from").is_not_null()).select(
        member.key,
        pl.col("valid_from").alias("at"),
        pl.col("source_lsn").alias("lsn"),
        pl.lit(False).alias("deleted"),
        *member.attributes,
    )
    closed = versions.filter("is_deleted").select(
        member.key,
        pl.col("expiry_date").alias("at"),
        pl.col("deleted_lsn").alias("lsn"),
        pl.lit(True).alias("deleted"),
    )
    parts = pl.col("restated").str.split(":").list
    restated = (
        versions.filter(pl.col("restated").list.len() > 0)
        .explode("restated")
        .select(
            member.key,
            parts.get(0).cast(pl.Int64).cast(INSTANT).alias("at"),
            parts.get(1).cast(pl.Int64).alias("lsn"),
            pl.col("restated").str.ends_with(_DELETED).alias("deleted"),
            *member.attributes,
        )
    )
    changes = pl.concat([opened, closed, restated], how="diagonal")
    return _without_attributes_of_deletions(changes, member).select(member.changes.names())


def history(changes: pl.DataFrame, sightings: pl.DataFrame, member: Member) -> pl.DataFrame:
    """Versions of the members that `changes` and `sightings` name, by natural key and effective date.

    Columns of the topic, less surrogate key, derived columns and `recorded_at`. `sightings` has at most one
    row a member, and counts where no change is known.
    """
    described = _described(_in_order(changes, member), member).with_columns(
        inferred_from=pl.lit(None, INSTANT)
    )
    named = sightings.filter(~pl.col(member.key).is_in(described[member.key].unique().implode()))
    inferred = named.with_columns(
        version_number=pl.lit(1, pl.Int32),
        effective_date=pl.lit(FIRST, INSTANT),
        is_current=pl.lit(value=True),
        is_deleted=pl.lit(value=False),
        restated=pl.lit([], pl.List(pl.String)),
    )
    return (
        pl.concat([described, inferred], how="diagonal")
        .with_columns(is_inferred=pl.col("valid_from").is_null())
        .sort(member.key, "effective_date")
    )


def _in_order(changes: pl.DataFrame, member: Member) -> pl.DataFrame:
    """One change for each instant of a member, in order. Nothing begins outside what stores can hold."""
    at = pl.col("at").clip(FIRST, LAST)
    return (
        _without_attributes_of_deletions(changes.with_columns(at=at), member)
        .sort(member.key, "at", "lsn")
        .unique([member.key, "at"], keep="last", maintain_order=True)
    )


def _described(changes: pl.DataFrame, member: Member) -> pl.DataFrame:
    """The versions of changes in order; a member without an opening has one, with `valid_from` null."""
    key = pl.col(member.key)
    follows = (key == key.shift(1)).fill_null(value=False)
    after_deletion = pl.col("deleted").shift(1).fill_null(value=False)
    differs = pl.any_horizontal(pl.col(name).ne_missing(pl.col(name).shift(1)) for name in member.attributes)
    marked = changes.with_columns(
        opens=~pl.col("deleted") & (~follows | after_deletion | differs),
        follows=follows,
        after_deletion=after_deletion,
    )
    never_opens = ~pl.col("opens").any().over(member.key)
    marked = marked.with_columns(
        closes=pl.col("deleted")
        & ((pl.col("follows") & ~pl.col("after_deletion")) | (never_opens & ~pl.col("follows"))),
        # A deletion before the first opening belongs to the first version, which it does not close.
        version_number=pl.col("opens").cum_sum().over(member.key).cast(pl.Int32).clip(1),
    )
    text = pl.format("{}:{}{}", pl.col("at").cast(pl.Int64), "lsn", _mark_of_deletion())
    opening, closing = pl.col("opens"), pl.col("closes")
    versions = marked.group_by(member.key, "version_number", maintain_order=True).agg(
        pl.col("at").filter(opening).first().alias("valid_from"),
        pl.col("lsn").filter(opening).first().alias("source_lsn"),
        *(pl.col(name).filter(opening).first() for name in member.attributes),
        pl.col("at").filter(closing).first().alias("closed_at"),
        pl.col("lsn").filter(closing).first().alias("deleted_lsn"),
        text.filter(~opening & ~closing).alias("restated"),
    )
    following = pl.col("valid_from").shift(-1).over(member.key)
    last = pl.col("version_number") == pl.col("version_number").max().over(member.key)
    first = pl.col("version_number") == 1
    deleted = pl.col("closed_at").is_not_null()
    return versions.with_columns(
        effective_date=pl.when(first).then(pl.lit(FIRST, INSTANT)).otherwise("valid_from"),
        expiry_date=pl.coalesce("closed_at", following),
        is_current=last & ~deleted,
        is_deleted=deleted,
    ).drop("closed_at")


def _mark_of_deletion() -> pl.Expr:
    return pl.when("deleted").then(pl.lit(_DELETED)).otherwise(pl.lit(""))


def _without_attributes_of_deletions(changes: pl.DataFrame, member: Member) -> pl.DataFrame:
    return changes.with_columns(
        pl.when(~pl.col("deleted")).then(pl.col(a)).alias(a) for a in member.attributes
    )
