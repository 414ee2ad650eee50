"""`e2e_latency`: steady load over HTTP on the whole platform; from acceptance to every store, every event."""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

from bench.chain.arrivals import Percentiles, percentiles
from bench.chain.load import Plan
from bench.chain.observe import Observed, observe
from bench.chain.own_stack import own_platform
from bench.chain.watch import now_ms
from bench.harness.machine import describe
from bench.harness.results import Result, Table
from bench.workloads.stage_runs import say
from deploy.local.errors import WRONG_USAGE, CommandError

HELP: Final = "from acceptance to every store, whole platform, steady load over HTTP"
OBJECTIVES_S: Final = {
    "live feed (aggregates topic)": 0.5,
    "live feed (subscription)": 0.5,
    "warehouse": 1.0,
    "GraphQL query (sample)": 1.0,
    "gold fact (Delta)": 3.0,
    "silver (Delta)": 5.0,
    "bronze (Delta)": 5.0,
}
"""At 1,000 events/s; the gold fact has 5 s at 5,000."""

_HIGH_RATE: Final = 5_000
_HIGH_RATE_FACT_S: Final = 5.0
# For the process of the load to start and to make its lines.
_LEAD_MS: Final = 20_000.0


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--rate", type=int, default=1000, help="events a second (default: %(default)s)")
    parser.add_argument("--minutes", type=float, default=10.0, help="measured time (default: %(default)s)")
    parser.add_argument(
        "--warm-up", type=int, default=60, help="seconds of load before, not counted (default: %(default)s)"
    )
    parser.add_argument("--tick-ms", type=int, default=20, help="a request each (default: %(default)s)")


def run(args: argparse.Namespace) -> Result:
    if args.rate < 1 or args.tick_ms < 1 or args.rate * args.tick_ms % 1000:
        raise CommandError("rate x tick-ms must make whole events: choose another --tick-ms", WRONG_USAGE)
    machine = describe()
    with own_platform() as platform, tempfile.TemporaryDirectory(prefix="tillstream-bench-") as folder:
        seconds = args.warm_up + round(args.minutes * 60)
        plan = Plan(platform.urls["ingest"], args.rate, seconds, args.tick_ms, now_ms() + _LEAD_MS)
        say(f"{args.rate:,} events/s: {args.warm_up} s of warm-up, then {args.minutes:g} minutes")
        observed = observe(platform, plan, args.warm_up, Path(folder))
    return _result(observed, machine, args)


def _result(observed: Observed, machine: Mapping[str, Any], args: argparse.Namespace) -> Result:
    found = {name: percentiles(latency) for name, latency in observed.latency_ms.items()}
    intended = {name: percentiles(latency) for name, latency in observed.from_intended_ms.items()}
    used = [*observed.cpu_s.items(), ("all", sum(observed.cpu_s.values()))]
    shares = [[name, f"{cpu:.1f}", f"{cpu / observed.measured_s:.3f}"] for name, cpu in used]
    queries = percentiles(observed.query_ms)
    return Result(
        workload="e2e_latency",
        variant=str(args.rate),
        title=f"e2e_latency: {args.rate:,} events/s, the whole platform",
        machine=machine,
        parameters={
            "events/s": args.rate,
            "minutes": args.minutes,
            "warm-up, s (not counted)": args.warm_up,
            "events counted": observed.events,
            "events refused": observed.refused,
        },
        tables=[
            Table(
                "Seconds from acceptance (`ingest_ts`)",
                ("store", "p50", "p95", "p99", "p99.9", "max", "objective (p99)", "events", "missing"),
                [_row(name, each, args.rate) for name, each in found.items()],
            ),
            Table(
                "Seconds from the time at which an event was meant to be sent",
                ("store", "p50", "p95", "p99", "p99.9", "max"),
                [[name, *_figures(each)] for name, each in intended.items()],
            ),
            Table(
                "CPU of each process during the measured time",
                ("process", "CPU, s", "cores"),
                shares,
            ),
        ],
        notes=_notes(queries),
        raw={
            "latency": {name: asdict(each) for name, each in found.items()},
            "from_intended": {name: asdict(each) for name, each in intended.items()},
            "cpu_s": dict(observed.cpu_s),
        },
    )


def _notes(queries: Percentiles) -> list[str]:
    each = f"{queries.events:,} queries of p50 {queries.p50 * 1000:.0f} ms, p99 {queries.p99 * 1000:.0f} ms"
    return [
        "Every event counts, but for `GraphQL query`: there an invoice a second is asked for, every 20 ms "
        f"until it is there ({each}).",
        "Live feed: when a reader of committed totals got the one that covers the event; the subscription is "
        "a WebSocket client that compares the number of lines it was told. Warehouse: rows become visible "
        "with the offsets of their transaction, asked for every 10 ms. Delta: the time of the commit, by "
        "the coordinates in the data files it added; what compaction rewrites does not count.",
        "The load is an open loop: each request leaves at its own time, whether earlier ones were answered "
        "or not. Compaction and the other scheduled jobs run as they do in `up`.",
    ]


def _row(name: str, each: Percentiles, rate: int) -> list[str]:
    objective = OBJECTIVES_S[name]
    if rate >= _HIGH_RATE and name.startswith("gold fact"):
        objective = _HIGH_RATE_FACT_S
    verdict = "met" if each.p99 <= objective and not each.missing else "missed"
    return [name, *_figures(each), f"{objective:g} {verdict}", f"{each.events:,}", f"{each.missing:,}"]


def _figures(each: Percentiles) -> list[str]:
    return [f"{value:.3f}" for value in (each.p50, each.p95, each.p99, each.p999, each.maximum)]
