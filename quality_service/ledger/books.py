"""The books: what every topic says of every receipt, as columns, and the balance drawn from them.

Pure: frames in, figures out. The unit of account is the receipt (one raw record, or one item that
ingest itself quarantined). Each side of the equation is counted from another source:

    accepted      raw topic (coordinates), and ingest's own items on the quarantine topic
    duplicates    decisions topic; repeats of an ingest item on the quarantine topic
    quarantined   quarantine topic, matched to its decision by raw coordinates
    gold          ids that the lake and the warehouse hold, read from those stores
    in flight     receipts that a stage has not reached yet, by that stage's own position

A receipt that a stage has passed and that is nowhere is *missing*, never *in flight*.
Ids are compared as 64-bit hashes (xxHash64): with ten million ids the chance that two share one is
three in a million.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import polars as pl

from quality_service.ledger import findings
from quality_service.ledger.findings import Finding
from schemas.decisions import Outcome

COORD = ["partition", "offset"]
ACCEPTING = [Outcome.ACCEPTED, Outcome.ACCEPTED_RESOLVING]

RAW = {
    "partition": pl.Int32,
    "offset": pl.Int64,
    "origin_partition": pl.Int32,  # of the record this one was rerouted from, else its own
    "origin_offset": pl.Int64,
    "load_id": pl.String,
    "at": pl.Int64,
    "heartbeat": pl.Boolean,  # by its key, which anyone can write
}
DECISIONS = {
    "partition": pl.Int32,
    "offset": pl.Int64,
    "event_id": pl.String,
    "id": pl.Int64,
    "outcome": pl.UInt8,
    "reason": pl.String,
    "at": pl.Int64,
    "heartbeat": pl.Boolean,  # by the id that quality decided on
}
QUARANTINE = {
    "item_id": pl.String,
    "stage": pl.String,
    "state": pl.String,
    "event_id": pl.String,
    "reason": pl.String,
    "raw_partition": pl.Int32,
    "raw_offset": pl.Int64,
    "load_id": pl.String,
    "amount_micros": pl.Int64,
    "partition": pl.Int32,
    "offset": pl.Int64,
    "at": pl.Int64,
}
HOP = {"id": pl.Int64, "partition": pl.Int32, "offset": pl.Int64, "at": pl.Int64}
LAKE = {
    "id": pl.Int64,
    "partition": pl.Int32,
    "offset": pl.Int64,
    "amount_micros": pl.Int64,
    "ingest_ts": pl.Int64,
    "at": pl.Int64,
}
WAREHOUSE = {"id": pl.Int64, "amount_micros": pl.Int64}


class Column:
    """An append-only frame, kept as few chunks as reading needs."""

    def __init__(self, schema: Mapping[str, type[pl.DataType]]) -> None:
        self._frame = pl.DataFrame(schema=schema)
        self._pending: list[pl.DataFrame] = []
        self._schema = dict(schema)

    def append(self, frame: pl.DataFrame) -> None:
        self._pending.append(frame.select(list(self._schema)).cast(self._schema))  # type: ignore[arg-type]

    def frame(self) -> pl.DataFrame:
        if self._pending:
            self._frame = pl.concat([self._frame, *self._pending]).rechunk()
            self._pending = []
        return self._frame


@dataclass(frozen=True)
class Progress:
    """How far each stage has read its input: partition -> next offset."""

    quality: dict[int, int] = field(default_factory=dict)
    enrich: dict[int, int] = field(default_factory=dict)
    warehouse: dict[int, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Balance:
    """One consistent cut. Amounts are in 1/1,000,000 of the currency unit."""

    accepted: int
    duplicates: int
    quarantined: int
    resolved: int
    in_flight: int
    gold: int
    lake: int
    warehouse: int
    findings: list[Finding]
    amount_gold: int
    amount_quarantined: int

    @property
    def balanced(self) -> bool:
        outcomes = self.gold + self.duplicates + self.quarantined + self.resolved + self.in_flight
        return self.accepted == outcomes and not self.findings

    @property
    def missing(self) -> list[str]:
        """Names of receipts that a stage has passed and that are nowhere."""
        return findings.names(self.findings, findings.MISSING)

    @property
    def doubled(self) -> int:
        return findings.count(self.findings, findings.DOUBLED)

    @property
    def unexpected(self) -> int:
        return findings.count(self.findings, findings.UNEXPECTED)

    @property
    def differing(self) -> int:
        return findings.count(self.findings, findings.DIFFERING)


class Books:
    """Append what the topics say, then draw the balance against what the stores hold."""

    def __init__(self) -> None:
        self.raw = Column(RAW)
        self.decisions = Column(DECISIONS)
        self.quarantine = Column(QUARANTINE)
        self.validated = Column(HOP)
        self.enriched = Column(HOP)
        self.decided_to: dict[int, int] = {}

    def decided(self, partition: int, end_offset: int) -> None:
        """Quality has decided every raw record of `partition` below `end_offset`."""
        self.decided_to[partition] = max(self.decided_to.get(partition, 0), end_offset)

    def balance(
        self,
        lake: pl.DataFrame,
        warehouse: pl.DataFrame,
        progress: Progress,
        load_id: str | None = None,
    ) -> Balance:
        """`lake` and `warehouse` as read from the stores (columns LAKE, WAREHOUSE); with `load_id`,
        only the receipts of that load."""
        receipts = _receipts(self.raw.frame(), self.decisions.frame())
        items, resolved_items = _quarantine_items(self.quarantine.frame())
        ingest_items = items.filter(pl.col("stage") == "ingest")
        accepted_ids = receipts.filter(_is_accepted()).select("id", "event_id", "load_id").unique("id")
        wrong = findings.of_stores({"lake": lake, "warehouse": warehouse}, accepted_ids)
        if load_id is not None:
            receipts = receipts.filter(pl.col("load_id") == load_id)
            ingest_items = ingest_items.filter(pl.col("load_id") == load_id)

        undecided = receipts.filter(pl.col("outcome").is_null())
        skipped = undecided.filter(_passed("partition", "offset", progress.quality, self.decided_to))
        rejected = receipts.filter(pl.col("outcome").is_in([Outcome.REJECTED, Outcome.CONFLICT])).join(
            items.filter(pl.col("stage") == "quality").select(
                "item_id", "amount_micros", partition="raw_partition", offset="raw_offset"
            ),
            on=COORD,
            how="left",
            coalesce=True,
        )
        unkept = rejected.join(
            items.select(partition="raw_partition", offset="raw_offset"), on=COORD, how="anti"
        )
        rejected = rejected.join(unkept, on=COORD, how="anti")
        # By a later record of the event, or by a replay that named the item.
        by_name = pl.col("item_id").is_in(resolved_items["item_id"].implode())
        is_resolved = by_name | (pl.col("outcome") == Outcome.REJECTED) & pl.col("event_id").is_in(
            resolved_items["event_id"].implode()
        )
        resolved = rejected.filter(is_resolved)
        open_items = rejected.filter(~is_resolved)

        accepted = receipts.filter(_is_accepted())
        in_lake, in_warehouse = _held(accepted, lake), _held(accepted, warehouse)
        gold = in_lake.join(in_warehouse.select(COORD), on=COORD, how="semi")
        lost_at = self._lost(accepted, lake, warehouse, progress)
        lost = pl.concat(lost_at.values()).unique(COORD)
        waiting = accepted.join(gold, on=COORD, how="anti").join(lost, on=COORD, how="anti")

        first_items = ingest_items.filter(~pl.col("repeat"))
        mended_items, first_items = first_items.filter(by_name), first_items.filter(~by_name)
        gold_rows = warehouse.join(gold.select("id"), on="id", how="semi")
        return Balance(
            accepted=receipts.height + ingest_items.height,
            duplicates=receipts.filter(pl.col("outcome") == Outcome.DUPLICATE).height
            + ingest_items.filter(pl.col("repeat")).height,
            quarantined=open_items.height + first_items.height,
            resolved=resolved.height + mended_items.height,
            in_flight=undecided.height - skipped.height + waiting.height,
            gold=gold.height,
            lake=in_lake.height if load_id else lake.height,
            warehouse=in_warehouse.height if load_id else warehouse.height,
            findings=[
                *findings.missing({"quality": skipped, "quarantine": unkept, **lost_at}),
                *findings.twice(receipts, COORD),
                *wrong,
            ],
            amount_gold=int(gold_rows["amount_micros"].sum()),
            amount_quarantined=int(open_items["amount_micros"].sum() or 0)
            + int(first_items["amount_micros"].sum() or 0),
        )

    def _lost(
        self, accepted: pl.DataFrame, lake: pl.DataFrame, warehouse: pl.DataFrame, progress: Progress
    ) -> dict[str, pl.DataFrame]:
        """Accepted receipts that a later stage, by name, has read past without their being there."""
        enriched, validated = self.enriched.frame(), self.validated.frame()
        behind_lake = dict(lake.group_by("partition").agg(pl.col("offset").max() + 1).iter_rows())
        stages = {
            "enrich": (validated, enriched, progress.enrich),
            "warehouse": (enriched, warehouse, progress.warehouse),
            "lake": (enriched, lake, behind_lake),
        }
        lost = {}
        for stage, (source, sink, position) in stages.items():
            absent = accepted.join(sink.select("id"), on="id", how="anti")
            at = absent.join(
                source.select("id", sp="partition", so="offset").unique("id"), on="id", how="inner"
            )
            lost[stage] = at.filter(_passed("sp", "so", position)).select(accepted.columns)
        return lost


def _receipts(raw: pl.DataFrame, decisions: pl.DataFrame) -> pl.DataFrame:
    """One row per receipt, with its final decision (null while there is none). A record that was
    rerouted to its right partition is the same receipt still; its coordinates are the newer ones, to
    which its decision and its quarantine record point."""
    origin = ["origin_partition", "origin_offset"]
    rerouting = decisions.filter(pl.col("outcome") == Outcome.REROUTED)
    # The header alone proves nothing, anyone can write it: quality must have decided to reroute.
    newer = (
        raw.join(rerouting, left_on=origin, right_on=COORD, how="semi")
        .join(rerouting, on=COORD, how="anti")
        .sort("at")
        .unique(origin, keep="first")
        .select(*COORD, *origin)
    )
    receipts = (
        raw.join(newer, on=COORD, how="anti")
        .select(*COORD, "load_id", "heartbeat")
        .join(newer.rename({"partition": "np", "offset": "no"}), left_on=COORD, right_on=origin, how="left")
        .with_columns(partition=pl.coalesce("np", "partition"), offset=pl.coalesce("no", "offset"))
        .drop("np", "no")
    )
    final = decisions.filter(pl.col("outcome") != Outcome.REROUTED).drop("at")
    # A heartbeat is no receipt. What its key claims counts only until quality has read what it is.
    decided = receipts.join(final.rename({"heartbeat": "is_heartbeat"}), on=COORD, how="left")
    heartbeat = pl.coalesce("is_heartbeat", "heartbeat").fill_null(False)
    return decided.filter(~heartbeat).drop("heartbeat", "is_heartbeat")


def _quarantine_items(quarantine: pl.DataFrame) -> tuple[pl.DataFrame, pl.DataFrame]:
    """(open records, an ingest item's repeats marked by `repeat`; resolutions)."""
    opened = quarantine.filter(pl.col("state") == "OPEN").sort(COORD)
    repeat = (pl.col("stage") == "ingest") & (pl.int_range(pl.len()).over("item_id") > 0)
    return opened.with_columns(repeat=repeat), quarantine.filter(pl.col("state") == "RESOLVED")


def _is_accepted() -> pl.Expr:
    return pl.col("outcome").is_in(ACCEPTING)


def _passed(partition: str, offset: str, *positions: dict[int, int]) -> pl.Expr:
    """The offset lies below the position that any of `positions` gives for its partition."""
    reached = pl.lit(value=False)
    for position in positions:
        if position:
            after = pl.col(partition).replace_strict(position, default=0, return_dtype=pl.Int64)
            reached = reached | (pl.col(offset) < after)
    return reached


def _held(accepted: pl.DataFrame, store: pl.DataFrame) -> pl.DataFrame:
    return accepted.join(store.select("id"), on="id", how="semi")
