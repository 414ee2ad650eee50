"""`ledger`, `trace` and `token`: questions to a running platform."""

from __future__ import annotations

import argparse
import secrets
from datetime import UTC, datetime
from typing import Any

from deploy.local.errors import CommandError
from deploy.local.verbs import add_json, connect, print_json

ROLES = ("data_analyst", "data_engineer", "admin")
_TRACE = """
query($id: ID!) { event(id: $id) { eventId status reason
  hops { stage at topic partition offset }
  sale { source invoiceNo lineNo stockCode quantity unitPrice currency amount country invoiceTs revision } } }
"""


def register(verbs: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    ledger = verbs.add_parser(
        "ledger",
        help="does every event have its outcome?",
        description="Compare, by ids, what was acknowledged with what the stores hold. "
        "Exit code 1: unbalanced.",
    )
    add_json(ledger)
    ledger.set_defaults(run=run_ledger)

    trace = verbs.add_parser(
        "trace", help="one event's whole life", description="Where an event is, and why."
    )
    trace.add_argument("event_id", metavar="EVENT_ID")
    add_json(trace)
    trace.set_defaults(run=run_trace)

    token = verbs.add_parser(
        "token",
        help="a bearer token",
        description="Print a bearer token. Until authentication is built, any is accepted on loopback.",
    )
    token.add_argument("--role", choices=ROLES, default="data_analyst", help="default: %(default)s")
    token.set_defaults(run=run_token)


def run_ledger(args: argparse.Namespace) -> int:
    ledger = connect().ledger()
    if args.json:
        print_json(ledger)
    else:
        print_ledger(ledger)
    return 0 if ledger["balanced"] else 1


def print_ledger(ledger: dict[str, Any]) -> None:
    gold = ledger["gold"]
    print(f"accepted     {ledger['accepted']:>12,}  receipts")
    stores = f"lake {gold['lake']:,}, warehouse {gold['warehouse']:,}"
    print(f"gold         {min(gold['lake'], gold['warehouse']):>12,}  {stores}")
    for outcome in ("duplicates", "quarantined", "resolved", "in_flight"):
        print(f"{outcome.replace('_', ' '):<12} {ledger[outcome]:>12,}")
    print("balanced" if ledger["balanced"] else "UNBALANCED")
    for finding in ledger["findings"]:
        print(f"  {finding['told']}")


def run_trace(args: argparse.Namespace) -> int:
    event = connect().graphql(_TRACE, {"id": args.event_id})["event"]
    if event is None:
        raise CommandError(f"no event {args.event_id}: nothing with this id was ever accepted")
    if args.json:
        print_json(event)
        return 0
    print(f"{event['eventId']}  {event['status']}" + (f"  {event['reason']}" if event["reason"] else ""))
    before: datetime | None = None
    for hop in event["hops"]:
        at = datetime.fromisoformat(hop["at"]).astimezone(UTC) if hop["at"] else None
        later = (at - before).total_seconds() * 1000 if at and before else -1.0
        took = f"+{later:.0f} ms" if later >= 0 else ""
        place = (
            f"{hop['topic'] or ''} {hop['partition']}:{hop['offset']}" if hop["offset"] is not None else ""
        )
        when = at.isoformat(timespec="milliseconds") if at else ""
        print(f"  {hop['stage']:<12}{when:<32}{took:>12}  {place}")
        before = at or before
    for name, value in (event["sale"] or {}).items():
        print(f"  {name:<12}{value}")
    return 0


def run_token(args: argparse.Namespace) -> int:
    print(f"{args.role}.{secrets.token_urlsafe(24)}")
    return 0
