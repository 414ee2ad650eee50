"""One observation: load on a platform, watchers on its stores, and what became of every event."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import polars as pl
from numpy.typing import NDArray

from bench.chain.arrivals import Millis, arrived, by_rank
from bench.chain.delta import visible
from bench.chain.events import enriched_events, intended_ms
from bench.chain.load import Plan
from bench.chain.own_stack import cpu_by_process, cpu_used
from bench.chain.watch import (
    AggregatesWatcher,
    GraphqlSampler,
    SubscriptionWatcher,
    WarehouseWatcher,
    Watcher,
)
from deploy.local.errors import CommandError
from deploy.local.layout import CHECKOUT
from deploy.local.testing import Platform

_DRAIN_S: Final = 120.0
# The lake's slow tables and a compaction of them may still be at work when the warehouse has everything.
_LAST_COMMITS_S: Final = 15.0
_PLACE: Final[dict[str, pl.DataType]] = {"partition": pl.Int32(), "offset": pl.Int64()}
LAKE: Final = {
    "gold fact (Delta)": ("gold/fact_sales", ("partition", "offset")),
    "silver (Delta)": ("silver/sales", ("partition", "offset")),
    "bronze (Delta)": ("bronze/sales", ("raw_partition", "raw_offset")),
}


@dataclass(frozen=True, slots=True)
class Observed:
    """`latency_ms`: from acceptance, by store, NaN where an event never arrived. `from_intended_ms`: from the
    time at which it was meant to be sent. `refused`: events of requests that were not answered with 202."""

    events: int
    latency_ms: Mapping[str, Millis]
    from_intended_ms: Mapping[str, Millis]
    refused: int
    cpu_s: Mapping[str, float]
    measured_s: float
    query_ms: Millis


class Watchers:
    def __init__(self, platform: Platform, plan: Plan) -> None:
        urls = platform.urls
        self.live = AggregatesWatcher(urls["kafka"], urls["registry"])
        self.warehouse = WarehouseWatcher(urls["postgres"])
        self.subscription = SubscriptionWatcher(urls["graphql"])
        self.sampler = GraphqlSampler(urls["graphql"], plan.first_invoices())

    @contextmanager
    def running(self) -> Iterator[None]:
        every: tuple[Watcher, ...] = (self.live, self.warehouse, self.subscription, self.sampler)
        with ExitStack() as stack:
            for watcher in every:
                watcher.start()
                stack.callback(watcher.stop)
            yield

    def have(self, events: pl.DataFrame) -> bool:
        """Whether live feed and warehouse have all of them."""
        return not any(
            np.isnan(arrived(events, series)).any() for series in (self.live.series, self.warehouse.series)
        )


def observe(platform: Platform, plan: Plan, warm_up_s: int, folder: Path) -> Observed:
    """Events accepted within the first `warm_up_s` are sent and not counted."""
    measured_from_ms = plan.begin_ms + warm_up_s * 1000
    watchers = Watchers(platform, plan)
    with watchers.running(), _sending(plan, folder) as load:
        _sleep_until(measured_from_ms)
        before, begun = cpu_by_process(platform.home), time.monotonic()
        _sleep_until(plan.intended_ms(plan.ticks))
        after, ended = cpu_by_process(platform.home), time.monotonic()
        _wait_for(load)
        sent = _answers(folder)
        events = _drained(platform, watchers, sum(1 for tick in sent if tick[1] is not None) * plan.per_tick)
    time.sleep(_LAST_COMMITS_S)
    counted = (events["ingest_ms"] >= measured_from_ms).to_numpy()
    at_ms = _arrivals(events, watchers, platform.lake)
    accepted, meant = events["ingest_ms"].to_numpy(), intended_ms(events, plan).to_numpy()
    return Observed(
        events=int(counted.sum()),
        latency_ms={
            **{name: (times - accepted)[counted] for name, times in at_ms.items()},
            "GraphQL query (sample)": _sampled(events.filter(pl.Series(counted)), watchers.sampler),
        },
        from_intended_ms={name: (times - meant)[counted] for name, times in at_ms.items()},
        refused=sum(1 for tick in sent if tick[1] is None) * plan.per_tick,
        cpu_s=cpu_used(before, after),
        measured_s=ended - begun,
        query_ms=np.array(watchers.sampler.query_ms),
    )


@contextmanager
def _sending(plan: Plan, folder: Path) -> Iterator[subprocess.Popen[bytes]]:
    path = folder / "plan.json"
    plan.write(path)
    process = subprocess.Popen([sys.executable, "-m", "bench.chain.load", str(path)], cwd=CHECKOUT)
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def _wait_for(load: subprocess.Popen[bytes]) -> None:
    """Raises CommandError where it was not sent, or is not answered long after its time."""
    try:
        if load.wait(_DRAIN_S) == 0:
            return
    except subprocess.TimeoutExpired:
        raise CommandError(
            f"the load was not answered {_DRAIN_S:.0f} s after its end: this machine cannot keep up with it"
        ) from None
    raise CommandError("the load could not be sent")


def _answers(folder: Path) -> list[Any]:
    answers: list[Any] = json.loads((folder / "plan.done.json").read_text())
    return answers


def _drained(platform: Platform, watchers: Watchers, wanted: int) -> pl.DataFrame:
    """All events, once as many as were accepted are live and in the warehouse, or the time is up."""
    deadline = time.monotonic() + _DRAIN_S
    while True:
        events = enriched_events(platform.urls["kafka"], platform.urls["registry"])
        if (events.height >= wanted and watchers.have(events)) or time.monotonic() > deadline:
            return events
        time.sleep(1.0)


def _arrivals(events: pl.DataFrame, watchers: Watchers, lake: Path) -> dict[str, Millis]:
    live = arrived(events, watchers.live.series)
    return {
        "live feed (aggregates topic)": live,
        "live feed (subscription)": by_rank(live, watchers.subscription.lines, watchers.subscription.at_ms),
        "warehouse": arrived(events, watchers.warehouse.series),
        **{name: _in_lake(events, lake / table, place) for name, (table, place) in LAKE.items()},
    }


def _in_lake(events: pl.DataFrame, table: Path, coordinates: tuple[str, str]) -> Millis:
    """By the Kafka coordinates that the table keeps: raw ones in bronze, enriched ones elsewhere."""
    partition, offset = coordinates
    rows = visible(table, _PLACE).group_by(*_PLACE).agg(pl.col("at_ms").min())
    wanted = events.select(pl.col(partition).alias("partition"), pl.col(offset).alias("offset")).cast(_PLACE)  # type: ignore[arg-type]
    joined = wanted.join(rows, on=list(_PLACE), how="left", maintain_order="left")
    found: NDArray[np.float64] = joined["at_ms"].fill_null(float("nan")).to_numpy()
    return found


def _sampled(events: pl.DataFrame, sampler: GraphqlSampler) -> Millis:
    seen = pl.DataFrame(
        {"event_id": list(sampler.seen_ms), "at_ms": list(sampler.seen_ms.values())},
        schema={"event_id": pl.String, "at_ms": pl.Float64},
    )
    joined = events.join(seen, on="event_id", how="inner")
    found: Millis = (joined["at_ms"] - joined["ingest_ms"]).to_numpy()
    return found


def _sleep_until(at_ms: float) -> None:
    time.sleep(max(at_ms / 1000 - time.time(), 0.0))
