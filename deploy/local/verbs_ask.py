"""`ledger`, `trace`, `quarantine ls|show` and `token`: questions to a running platform."""

from __future__ import annotations

import argparse
import base64
import secrets
from datetime import UTC, datetime
from typing import Any

from deploy.local.errors import CommandError
from deploy.local.verbs import add_json, connect, print_json, query_postgres

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

    quarantine = verbs.add_parser(
        "quarantine",
        help="what was refused, and why",
        description="Items that were refused, with their bytes.",
    )
    actions = quarantine.add_subparsers(dest="action", required=True, metavar="ls|show")
    listing = actions.add_parser("ls", help="open items by reason and source")
    add_json(listing)
    listing.set_defaults(run=run_quarantine_ls)
    show = actions.add_parser("show", help="one item, by item id or event id")
    show.add_argument("id", metavar="ID")
    add_json(show)
    show.set_defaults(run=run_quarantine_show)

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
    print("balanced" if ledger["balanced"] else f"UNBALANCED, missing: {', '.join(ledger['missing'][:10])}")


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


def run_quarantine_ls(args: argparse.Namespace) -> int:
    rows = query_postgres(
        "select reason, source_system, stage, count(*) as items, min(quarantined_ts) as first, "
        "max(quarantined_ts) as last, min(item_id) as example "
        "from ops.quarantine where state = 'OPEN' group by 1, 2, 3 order by items desc"
    )
    if args.json:
        print_json(rows)
        return 0
    for row in rows:
        print(
            f"{row['items']:>8,}  {row['reason']:<20} {row['source_system'] or '':<16} {row['stage']:<8} "
            f"{row['first']} to {row['last']}  e.g. {row['example']}"
        )
    return 0


def run_quarantine_show(args: argparse.Namespace) -> int:
    rows = query_postgres(
        "select * from ops.quarantine where item_id = $1 or event_id = $1 order by quarantined_ts", args.id
    )
    if not rows:
        raise CommandError(f"no quarantined item {args.id}")
    for row in rows:
        payload = bytes(row.pop("payload"))
        row["payload_base64"] = base64.b64encode(payload).decode()
        row["payload_text"] = payload.decode("utf-8", "backslashreplace")
    if args.json:
        print_json(rows)
        return 0
    for row in rows:
        for name, value in row.items():
            if value is not None:
                print(f"{name:<18}{value}")
        print()
    return 0


def run_token(args: argparse.Namespace) -> int:
    print(f"{args.role}.{secrets.token_urlsafe(24)}")
    return 0
