"""`quarantine ls|show|replay`: look at what was refused, mend it, and send it through ingest again."""

from __future__ import annotations

import argparse
import sys
import time
from datetime import UTC, datetime
from typing import Any

from deploy.local.errors import WRONG_USAGE, CommandError
from deploy.local.verbs import add_json, connect, print_json

_POLL_S = 0.3
_EVERYTHING = "true"
_REPLAY_HELP = """Send open items through ingest again, mended by --set, under their original event ids.

EXPR is one SQL expression over the item (item_id, reason, stage, detail, load_id, ordinal, attempts,
ingest_ts, quarantined_ts) and the sale in it (event_id, source_system, invoice_no, line_no, stock_code,
description, quantity, unit_price, unit_price_micros, currency, customer_id, country, invoice_ts). What cannot
be read as a number or a time is there as text_quantity, text_line_no, text_unit_price and text_invoice_ts;
the whole item is text, the cells of a CSV line are cell_1, cell_2 and so on."""
_EXAMPLES = """examples:
  tillstream quarantine replay --where "reason = 'NEGATIVE_QUANTITY' AND source_system = 'till-7'" \\
      --set "invoice_no='C' || invoice_no"
  tillstream quarantine replay --id ITEM_ID --set "unit_price=replace(text_unit_price, ',', '.')" --dry-run
  tillstream quarantine replay --where "reason = 'ID_CONFLICT'" --set "event_id=concat(event_id, '-2')"
"""


def register(verbs: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    quarantine = verbs.add_parser(
        "quarantine",
        help="what was refused, why, and its replay",
        description="Items that were refused, with their bytes; mend and replay them.",
    )
    actions = quarantine.add_subparsers(dest="action", required=True, metavar="ls|show|replay|guard|allow")
    listing = actions.add_parser("ls", help="items grouped by rule, source or time")
    listing.add_argument(
        "--by", default="rule,source,stage", help="of rule, source, stage, hour, day (default: %(default)s)"
    )
    listing.add_argument("--resolved", action="store_true", help="resolved items in place of open ones")
    listing.add_argument("--items", action="store_true", help="the items one by one, the newest first")
    listing.add_argument("--rule", help="with --items: of this rule only")
    listing.add_argument("--source", help="with --items: of this source only")
    listing.add_argument("--first", type=int, default=50, metavar="N", help="default: %(default)s")
    add_json(listing)
    listing.set_defaults(run=run_ls)

    show = actions.add_parser("show", help="one item, by item id or event id")
    show.add_argument("id", metavar="ID")
    add_json(show)
    show.set_defaults(run=run_show)

    replay = actions.add_parser(
        "replay",
        help="mend items and send them through ingest again",
        description=_REPLAY_HELP,
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    replay.add_argument("--where", metavar="EXPR", help="which open items; true means all")
    replay.add_argument("--id", action="append", metavar="ITEM_ID", help="this item; may be repeated")
    replay.add_argument(
        "--set", action="append", default=[], metavar="FIELD=EXPR", help="mend a field; may be repeated"
    )
    replay.add_argument("--dry-run", action="store_true", help="say what would be sent, and send nothing")
    replay.add_argument("--no-wait", action="store_true", help="return when the replay has begun")
    replay.add_argument(
        "--timeout", type=float, default=300.0, metavar="S", help="wait so long (default: %(default)s)"
    )
    add_json(replay)
    replay.set_defaults(run=run_replay)

    guard = actions.add_parser(
        "guard",
        help="does a new contract or service hold partitions back?",
        description="Which version judges, since when, which partitions it has paused and why.",
    )
    add_json(guard)
    guard.set_defaults(run=run_guard)
    allow = actions.add_parser(
        "allow",
        help="let records that the guard holds back into quarantine",
        description="Override the guard as long as the version that runs now runs.",
    )
    which = allow.add_mutually_exclusive_group(required=True)
    which.add_argument("--reason", metavar="RULE", help="records that this rule refuses")
    which.add_argument("--all", action="store_true", help="whatever refuses them")
    add_json(allow)
    allow.set_defaults(run=run_allow)


def run_guard(args: argparse.Namespace) -> int:
    return _tell_guard(connect().quarantine("guard"), args.json)


def run_allow(args: argparse.Namespace) -> int:
    return _tell_guard(connect().allow(args.reason), args.json)


def _tell_guard(told: dict[str, Any], as_json: bool) -> int:
    if as_json:
        print_json(told)
        return 0
    began = told["since_ms"]
    since = datetime.fromtimestamp(began / 1000, UTC).isoformat() if began else "the first start"
    watched = "watched" if told["watching"] else "not watched any more"
    print(f"version {told['version']} since {since}, {watched}")
    for partition, reason in told["paused"].items():
        print(f"partition {partition} is paused: most of its records would be quarantined as {reason}")
    for reason, who in told["allowed"].items():
        print(f"{'everything' if reason == '*' else reason} is let through: {who}")
    return 0


def run_ls(args: argparse.Namespace) -> int:
    state = "resolved" if args.resolved else "open"
    client = connect()
    if args.items:
        rows = client.quarantine("items", state=state, rule=args.rule, source=args.source, first=args.first)
    else:
        rows = client.quarantine("groups", by=args.by, state=state, first=args.first)
    if args.json:
        print_json(rows["items"])
        return 0
    keys = args.by.split(",")
    for row in rows["items"]:
        if args.items:
            source = row["source_system"] or ""
            print(f"{row['item_id']}  {row['reason']:<20} {source:<16} {row['quarantined_ts']}")
            continue
        group = "".join(f"{row[key] or '':<22}" for key in keys)
        print(f"{row['items']:>8,}  {group}{row['first']} to {row['last']}  e.g. {row['example']}")
    return 0


def run_show(args: argparse.Namespace) -> int:
    rows = connect().quarantine(f"items/{args.id}")["items"]
    if args.json:
        print_json(rows)
        return 0
    for row in rows:
        history = row.pop("history")
        for name, value in row.items():
            if value is not None and name != "payload_base64":
                print(f"{name:<18}{value}")
        for attempt in history:
            said = attempt["detail"] or attempt["reason"]
            print(f"{'attempt':<18}{attempt['at']}  {attempt['outcome']}  {attempt['reason']}: {said}")
        print()
    return 0


def run_replay(args: argparse.Namespace) -> int:
    if args.where is None and not args.id:
        raise CommandError("say which items: --where EXPR (true means all) or --id ITEM_ID", WRONG_USAGE)
    request = {
        "where": args.where or _EVERYTHING,
        "set": dict(_assignment(text) for text in args.set),
        "item_ids": args.id,
        "dry_run": args.dry_run,
    }
    begun = connect().replay(request)
    if args.dry_run or args.no_wait:
        print_json(begun)
        return 0
    ended = _wait(begun["replay_id"], args.timeout)
    if args.json:
        print_json(ended)
    else:
        _print_outcome(ended)
    return 0 if ended["state"] == "sent" and not ended["failed_again"] and not ended["pending"] else 1


def _assignment(text: str) -> tuple[str, str]:
    field, equals, expression = text.partition("=")
    if not equals or not field.strip():
        raise CommandError(f"--set {text}: write FIELD=EXPR, such as quantity=abs(quantity)", WRONG_USAGE)
    return field.strip(), expression


def _wait(replay_id: str, timeout_s: float) -> dict[str, Any]:
    """Until every item that was sent has its outcome."""
    client = connect()
    deadline = time.monotonic() + timeout_s
    while True:
        told = client.quarantine(f"replays/{replay_id}")
        if told["state"] == "failed" or (told["state"] == "sent" and not told["pending"]):
            return told
        if time.monotonic() > deadline:
            print(f"{told['pending']} items are still under way", file=sys.stderr)
            return told
        time.sleep(_POLL_S)


def _print_outcome(told: dict[str, Any]) -> None:
    print(
        f"{told['replay_id']}: {told['matched']:,} matched, {told['sent']:,} sent, "
        f"{told['resolved']:,} resolved, {told['failed_again']:,} failed again, {told['pending']:,} pending"
    )
    for reason in told["reasons"]:
        print(f"{reason['items']:>8,}  {reason['reason']}: {reason['detail']}  e.g. {reason['example']}")
    if told["error"]:
        print(f"stopped: {told['error']}")
