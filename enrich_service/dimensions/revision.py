"""One step of a dimension: versions and a batch of news in, new versions and what to publish out. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import polars as pl

from enrich_service.countries import CountryTable
from enrich_service.dimensions.history import FIRST, changes_of, history
from enrich_service.dimensions.members import INSTANT, Member, derive
from schemas.dimensions import surrogate_key_expr

_OPEN_END: Final = pl.lit(2**63 - 1, pl.Int64)


@dataclass(frozen=True, slots=True)
class Step:
    """`versions`: all that are known now. `published`: those that are new or differ from before, in an order
    in which no reader ever sees two versions of a member overlap. `withdrawn`: natural key and effective date
    of those that are no more; they go first."""

    versions: pl.DataFrame
    published: pl.DataFrame
    withdrawn: pl.DataFrame


def advance(
    versions: pl.DataFrame,
    changes: pl.DataFrame,
    sightings: pl.DataFrame,
    *,
    member: Member,
    countries: CountryTable,
    now_ms: int,
) -> Step:
    """`versions`, and the step's, have the columns of the topic. `changes` and `sightings` are as in
    `members`; sightings that say nothing new are passed over."""
    news = _new_sightings(versions, sightings, member)
    touched = pl.concat([changes[member.key], news[member.key]]).unique().implode()
    old = versions.filter(_is_in(member, touched))
    seen = _earliest(
        pl.concat(
            [old.filter(pl.col("is_inferred") & ~pl.col("is_deleted")).select(member.sightings.names()), news]
        ),
        member,
    )
    all_changes = pl.concat([changes_of(old, member), changes.select(member.changes.names())])
    new = derive(history(all_changes, seen, member), member, countries).with_columns(
        surrogate_key_expr(member.dimension).alias(member.dimension.surrogate_key),
        recorded_at=pl.lit(now_ms, pl.Int64).cast(pl.Datetime("ms")).cast(INSTANT),
    )
    return _step(versions, old, new.select(versions.columns), member, touched)


def _step(
    versions: pl.DataFrame, old: pl.DataFrame, new: pl.DataFrame, member: Member, touched: pl.Series
) -> Step:
    place = [member.key, "effective_date"]
    contents = [name for name in new.columns if name not in {*place, "recorded_at"}]
    beside = new.join(old, on=place, how="left", suffix="_old", maintain_order="left")
    is_new = beside["is_current_old"].is_null()
    differs = beside.select(
        pl.any_horizontal(pl.col(name).ne_missing(pl.col(f"{name}_old")) for name in contents)
    ).to_series()
    changed = is_new | differs
    # What did not change keeps the time at which it was recorded.
    kept = new.with_columns(
        recorded_at=pl.when(changed).then("recorded_at").otherwise(beside["recorded_at_old"])
    )
    end, old_end = (
        beside.select(pl.col(name).cast(pl.Int64).fill_null(_OPEN_END)).to_series()
        for name in ("expiry_date", "expiry_date_old")
    )
    grows = is_new | (end > old_end)
    published = (
        kept.with_columns(grows=grows).filter(changed).sort("grows", maintain_order=True).drop("grows")
    )
    untouched = versions.filter(~_is_in(member, touched)) if len(old) else versions
    return Step(
        versions=pl.concat([untouched, kept]),
        published=published,
        withdrawn=old.join(new, on=place, how="anti").select(place),
    )


def _new_sightings(versions: pl.DataFrame, sightings: pl.DataFrame, member: Member) -> pl.DataFrame:
    """Those of unknown members, and those that tell more than the inferred version has."""
    if sightings.is_empty():
        return sightings
    best = _earliest(sightings, member)
    firsts = versions.filter(pl.col("effective_date") == FIRST).select(
        member.key, "is_inferred", "is_deleted", "inferred_from", *member.seen
    )
    beside = best.join(firsts, on=member.key, how="left", suffix="_old", maintain_order="left")
    tells, told = pl.col(member.seen[0]), pl.col(f"{member.seen[0]}_old")
    earlier = (pl.col("inferred_from") < pl.col("inferred_from_old")) | (
        (pl.col("inferred_from") == pl.col("inferred_from_old")) & (tells < told)
    )
    more = tells.is_not_null() & (told.is_null() | earlier)
    wanted = pl.col("is_inferred").is_null() | (
        pl.col("is_inferred") & ~pl.col("is_deleted") & more.fill_null(value=False)
    )
    return beside.filter(wanted).select(member.sightings.names())


def _earliest(sightings: pl.DataFrame, member: Member) -> pl.DataFrame:
    """One row a member: the earliest that tells something. Of a silent one the time does not count."""
    tells = pl.col(member.seen[0]).is_not_null()
    return (
        sightings.filter(pl.col(member.key).is_not_null())
        .with_columns(inferred_from=pl.when(tells).then("inferred_from"))
        .sort(member.key, "inferred_from", *member.seen, nulls_last=True)
        .unique(member.key, keep="first", maintain_order=True)
    )


def _is_in(member: Member, keys: pl.Series) -> pl.Expr:
    """The special member, whose key is null, is in nothing."""
    return pl.col(member.key).is_in(keys).fill_null(value=False)
