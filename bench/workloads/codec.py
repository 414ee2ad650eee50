"""`codec`: Avro of raw sales, decoded and encoded by the platform's batch codec and by others."""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import tempfile
from pathlib import Path
from statistics import median
from typing import Final

from bench.harness.installed import LOCK, peers_python
from bench.harness.machine import describe, locked_version
from bench.harness.results import Result, Table, spread
from deploy.local.errors import CommandError
from deploy.local.layout import CHECKOUT, Layout

HELP: Final = "schemas.codec against fastavro, Apache's avro and pyruhvro alone"


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--events", type=int, default=200_000, help="records (default: %(default)s)")
    parser.add_argument("--rounds", type=int, default=5, help="turns (default: %(default)s)")
    parser.add_argument("--batch", type=int, default=10_000, help="records of a batch (default: %(default)s)")


def run(args: argparse.Namespace) -> Result:
    machine = describe()
    times = _measured(args)
    rows = []
    for name, rates in times.items():
        ours = next(iter(times[key] for key in times if key.startswith(f"{name[:6]}: schemas.codec")))
        rows.append([name, spread(rates), f"{median(ours) / median(rates):.1f}"])
    versions = ", ".join(f"{name} {locked_version(LOCK, name)}" for name in ("fastavro", "avro", "pyruhvro"))
    return Result(
        workload="codec",
        title="codec: Avro by the batch",
        machine=machine,
        parameters={"records": args.events, "rounds": args.rounds, "records of a batch": args.batch},
        tables=[Table("", ("codec", "records/s and core", "ours is faster by"), sorted(rows))],
        notes=[
            f"In one process of one thread, by CPU time; {versions}.",
            "`schemas.codec` checks more than pyruhvro alone: framing, schema ids, UTF-8, and it isolates a "
            "bad record instead of failing the batch.",
        ],
        raw=times,
    )


def _measured(args: argparse.Namespace) -> dict[str, list[float]]:
    python = peers_python(Layout.from_environment())
    env = {**os.environ, "PYTHONPATH": str(CHECKOUT), "POLARS_MAX_THREADS": "1", "OMP_NUM_THREADS": "1"}
    with tempfile.TemporaryDirectory(prefix="tillstream-bench-") as folder:
        config = Path(folder) / "codec.json"
        config.write_text(
            json.dumps({"records": args.events, "rounds": args.rounds, "batch": args.batch}), encoding="utf-8"
        )
        done = subprocess.run(
            [str(python), "-m", "bench.peers.codec_loops", str(config)],
            env=env,
            cwd=CHECKOUT,
            capture_output=True,
            text=True,
            check=False,
        )
    if done.returncode != 0:
        raise CommandError(f"the codecs could not be measured: {done.stderr.strip().splitlines()[-1:]}")
    times: dict[str, list[float]] = json.loads(done.stdout)
    return times
