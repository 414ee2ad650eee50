"""Change events in Debezium's envelope to frames of changes (see `members`). Pure.

An event has `op` (c created, u updated, d deleted, r read by a snapshot), the row `before` and `after`, and
`source` with the log position `lsn` and the commit time. A change begins at the row's `valid_from`, where it
has one, else at its commit; a deletion always at its commit.

An update of nothing that the dimension has (`before` tells) is no change: a source that touches its rows
every night must neither make versions nor restate them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import polars as pl

from enrich_service.dimensions.members import INSTANT, Member
from schemas import avro, fast
from schemas.codec import HEADER_BYTES, MAGIC, SchemaSource
from schemas.registry import UnknownSchema

_MICROS: Final = pl.Decimal(38, 6)
_UPSERTS: Final = ("c", "u", "r")
_DELETE: Final = "d"
_VALID_FROM: Final = "valid_from"


class NotAChange(Exception):  # noqa: N818 - reads as what happened
    """A record that is no change event, or one of a table that lacks what a dimension is made of.
    `position` is its place in the batch."""

    def __init__(self, position: int, reason: str) -> None:
        super().__init__(reason)
        self.position = position


class Envelopes:
    """Decodes the values of one captured table."""

    def __init__(
        self,
        member: Member,
        registry: SchemaSource,
        unreadable: Callable[[str, int], None] = lambda column, count: None,
    ) -> None:
        """`unreadable` is told how many values of a column could not be read: a `valid_from` that is no time
        counts as none, a price that 64 bits of micros cannot hold is unknown."""
        self._member = member
        self._registry = registry
        self._unreadable = unreadable
        self._decoders: dict[int, Callable[[list[bytes]], Any]] = {}

    def changes(self, values: Sequence[bytes | None]) -> pl.DataFrame:
        """The changes that the events tell, in their order. Records without a value tell nothing.

        Raises `NotAChange`, or `RegistryUnavailable`.
        """
        by_schema: dict[int, list[int]] = {}
        for position, value in enumerate(values):
            if value is not None:
                by_schema.setdefault(_schema_id(value, position), []).append(position)
        parts = [self._of_schema(schema_id, values, at) for schema_id, at in by_schema.items()]
        return pl.concat([self._member.changes.to_frame(), *parts])

    def _of_schema(self, schema_id: int, values: Sequence[bytes | None], at: list[int]) -> pl.DataFrame:
        decode = self._decoders.get(schema_id) or self._decoder(schema_id, at[0])
        frame, _, bad = decode([(values[position] or b"")[HEADER_BYTES:] for position in at])
        if bad:
            raise NotAChange(at[bad[0][0]], bad[0][1])
        if unknown := set(frame["op"].unique()) - {*_UPSERTS, _DELETE}:
            first = frame["op"].is_in(list(unknown)).arg_max() or 0
            raise NotAChange(at[first], f"operation {frame['op'][first]!r} is no row's change: {_REMEDY}")
        return self._flat(frame, at)

    def _decoder(self, schema_id: int, position: int) -> Callable[[list[bytes]], Any]:
        try:
            schema = avro.parse(self._registry.by_id(schema_id))
        except (UnknownSchema, avro.SchemaNotSupported) as error:
            raise NotAChange(position, str(error)) from error
        self._check(schema.plain, position)
        self._decoders[schema_id] = fast.decoder(schema)
        return self._decoders[schema_id]

    def _check(self, schema: Mapping[str, Any], position: int) -> None:
        """The table must have the columns that the dimension is made of; further ones are welcome."""
        fields = {field["name"]: field["type"] for field in schema["fields"]}
        if lacking := {"before", "after", "source", "op"} - fields.keys():
            raise NotAChange(position, f"schema {schema.get('name')} lacks {', '.join(sorted(lacking))}")
        options = fields["before"] if isinstance(fields["before"], list) else [fields["before"]]
        before: Mapping[str, Any] = next(
            (option for option in options if isinstance(option, dict)), {"fields": []}
        )
        columns = {field["name"] for field in before["fields"]}
        wanted = {self._member.key, _VALID_FROM, *self._member.attributes.values()}
        if lacking := wanted - columns:
            raise NotAChange(
                position,
                f"{self._member.source} has no column {', '.join(sorted(lacking))}, and the dimension is "
                "made of it: bring it back, or change enrich_service/dimensions/members.py and start again; "
                "nothing was skipped",
            )

    def _flat(self, frame: pl.DataFrame, at: list[int]) -> pl.DataFrame:
        member, deleted = self._member, pl.col("op") == _DELETE
        row: pl.DataFrame = frame.select(
            "op",
            deleted.alias("deleted"),
            _committed(frame.schema["source"]).alias("committed"),
            _log_position().alias("lsn"),
            pl.coalesce(
                pl.col("after").struct.field(member.key), pl.col("before").struct.field(member.key)
            ).alias(member.key),
            *self._side("after"),
            *(each.name.suffix("_before") for each in self._side("before")),
        )
        for name in (member.key, "lsn", "committed"):
            if row[name].null_count():
                first = row[name].is_null().arg_max() or 0
                raise NotAChange(at[first], f"the event has no {name}")
        self._report(frame, row)
        same = [
            pl.col(name).eq_missing(pl.col(f"{name}_before")) for name in (_VALID_FROM, *member.attributes)
        ]
        touched_only = (pl.col("op") == "u") & pl.all_horizontal(same)
        begins = pl.when("deleted").then(None).otherwise(_VALID_FROM)
        return (
            row.filter(~touched_only)
            .with_columns(at=pl.coalesce(begins, "committed"))
            .select(pl.col(name).cast(dtype) for name, dtype in member.changes.items())
        )

    def _side(self, side: str) -> list[pl.Expr]:
        """The row before or after, in the dimension's names; null where there is none."""
        row = pl.col(side).struct
        attributes = [
            (_micros(row.field(column)) if name.endswith("_micros") else row.field(column)).alias(name)
            for name, column in self._member.attributes.items()
        ]
        return [_instant(row.field(_VALID_FROM)).alias(_VALID_FROM), *attributes]

    def _report(self, frame: pl.DataFrame, row: pl.DataFrame) -> None:
        after = frame["after"].struct
        for name, column in ((_VALID_FROM, _VALID_FROM), *self._member.attributes.items()):
            lost = int(row[name].null_count()) - int(after.field(column).null_count())
            if lost:
                self._unreadable(column, lost)


_REMEDY: Final = "leave `skipped.operations` of the connector at its default"


def _schema_id(value: bytes, position: int) -> int:
    if len(value) <= HEADER_BYTES or value[0] != MAGIC:
        raise NotAChange(position, "no value in the registry's framing")
    return int.from_bytes(value[1:HEADER_BYTES], "big")


def _committed(source: pl.DataType) -> pl.Expr:
    """Commit time in microseconds; connectors before 2.5 tell milliseconds only."""
    assert isinstance(source, pl.Struct)
    names = {field.name for field in source.fields}
    if "ts_us" in names:
        return pl.col("source").struct.field("ts_us").cast(pl.Int64).cast(INSTANT)
    return pl.col("source").struct.field("ts_ms").cast(pl.Int64).cast(pl.Datetime("ms")).cast(INSTANT)


def _log_position() -> pl.Expr:
    """A snapshot may lack it: what was streamed of the same instant knows better."""
    position = pl.col("source").struct.field("lsn").cast(pl.Int64)
    return pl.when(pl.col("op") == "r").then(position.fill_null(0)).otherwise(position)


def _instant(text: pl.Expr) -> pl.Expr:
    """A time with zone as Debezium writes it: ISO 8601, in UTC, with as many places as it needs."""
    parsed = text.cast(pl.String).str.to_datetime("%+", time_unit="us", time_zone="UTC", strict=False)
    return parsed.dt.replace_time_zone(None)


def _micros(text: pl.Expr) -> pl.Expr:
    """A decimal string in micros; null beyond 64 bits."""
    return (text.cast(pl.String).cast(_MICROS, strict=False) * 1_000_000).cast(pl.Int64, strict=False)
