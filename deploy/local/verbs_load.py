"""`load`: CSV files into the running platform, and, with --wait, until every line has its outcome."""

from __future__ import annotations

import argparse
import sys
import time
import uuid
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any

from deploy.local.verbs import add_json, connect, print_json

if TYPE_CHECKING:
    from deploy.local.client import PlatformClient

from deploy.local.errors import WRONG_USAGE, CommandError

_POLL_S = 0.2


@dataclass(frozen=True)
class FileOutcome:
    """What ingest made of one file; `error` where it refused the file as a whole."""

    name: str
    accepted: int
    quarantined: int
    error: str | None


def register(verbs: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = verbs.add_parser(
        "load",
        help="load CSV files",
        description="Load CSV files (a directory means its *.csv). Loading a file twice changes nothing.",
    )
    parser.add_argument("paths", nargs="+", type=Path, metavar="PATH")
    parser.add_argument("--source", default="online-retail", help="source system (default: %(default)s)")
    parser.add_argument(
        "--currency", default="GBP", help="ISO 4217 code of the prices (default: %(default)s)"
    )
    parser.add_argument("--wait", action="store_true", help="return when every line has its final outcome")
    parser.add_argument(
        "--timeout", type=float, default=900.0, metavar="S", help="with --wait (default: %(default)s)"
    )
    add_json(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    files = csv_files(args.paths)
    client = connect()
    load_id = str(uuid.uuid4())
    outcomes = [send(client, path, load_id, args.source, args.currency) for path in files]
    report: dict[str, Any] = {
        "load_id": load_id,
        "files": len(files),
        "accepted": sum(o.accepted for o in outcomes) + sum(o.quarantined for o in outcomes),
        "failed": [{"file": o.name, "error": o.error} for o in outcomes if o.error],
    }
    if args.wait:
        report |= settled(client, load_id, report["accepted"], args.timeout)
    if args.json:
        print_json(report)
    else:
        _print(report)
    for failure in report["failed"]:
        print(f"tillstream: {failure['file']}: {failure['error']}", file=sys.stderr)
    return 1 if report["failed"] or report.get("balanced") is False else 0


def csv_files(paths: list[Path]) -> list[Path]:
    """The files that these paths name, a directory's in the order of their names."""
    files: list[Path] = []
    for path in paths:
        if path.is_dir():
            found = sorted(path.glob("*.csv"))
            if not found:
                raise CommandError(f"{path} holds no *.csv", WRONG_USAGE)
            files += found
        elif path.is_file():
            files.append(path)
        else:
            raise CommandError(f"{path}: no such file or directory", WRONG_USAGE)
    return files


def send(client: PlatformClient, path: Path, load_id: str, source: str, currency: str) -> FileOutcome:
    """Send one file and wait until the broker has acknowledged all of it."""
    try:
        job_id = client.post_file(path, load_id=load_id, source=source, currency=currency)
        while (job := client.job(job_id))["state"] == "running":
            time.sleep(_POLL_S)
    except CommandError as error:
        return FileOutcome(path.name, 0, 0, str(error))
    error_text = job.get("error") if job["state"] == "failed" else None
    return FileOutcome(path.name, int(job["accepted"]), int(job["quarantined"]), error_text)


def settled(client: PlatformClient, load_id: str, accepted: int, timeout_s: float) -> dict[str, Any]:
    """The figures of one load once nothing of it is in flight."""
    deadline = time.monotonic() + timeout_s
    while True:
        ledger = client.ledger(load_id)
        if ledger["accepted"] >= accepted and ledger["in_flight"] == 0:
            break
        if time.monotonic() > deadline:
            raise CommandError(
                f"after {timeout_s:.0f} s {ledger['in_flight']} receipts of load {load_id} are in flight: "
                f"see `tillstream status` and `tillstream ledger`"
            )
        time.sleep(_POLL_S)
    return {
        "accepted": ledger["accepted"],
        "duplicates": ledger["duplicates"],
        "quarantined": ledger["quarantined"],
        "resolved": ledger["resolved"],
        "gold": ledger["in_both"],
        "amount_gold": ledger["amount_gold"],
        "amount_quarantined": ledger["amount_quarantined"],
        "missing": ledger["missing"],
        "balanced": ledger["balanced"],
    }


def _print(report: dict[str, Any]) -> None:
    print(f"load {report['load_id']}: {report['files']} files, {report['accepted']:,} lines accepted")
    if "gold" in report:
        print(
            f"in gold {report['gold']:,} (amount {Decimal(report['amount_gold']):,}), "
            f"duplicates {report['duplicates']:,}, quarantined {report['quarantined']:,} "
            f"(amount {Decimal(report['amount_quarantined']):,})"
        )
