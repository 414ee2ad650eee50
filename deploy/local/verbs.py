"""What the verbs that talk to a running platform share. Standard library only at import."""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from deploy.local.ports import DEFAULT_BASE
from deploy.local.stack import Stack
from deploy.local.verbs_stack import bring_down, bring_up

if TYPE_CHECKING:
    from deploy.local.client import PlatformClient

_STAGES = ("ingest", "quality", "enrich", "warehouse", "aggregates", "lake", "ledger")
_ANY_TOKEN = "loopback"  # noqa: S105 - any token is accepted on loopback until authentication is built


def add_json(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--json", action="store_true", help="JSON on standard output, all else on standard error"
    )


def add_port_base(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--port-base",
        type=int,
        metavar="N",
        help=f"first port (default: TILLSTREAM_PORT_BASE, else {DEFAULT_BASE})",
    )


def print_json(value: Any) -> None:
    print(json.dumps(value, indent=2, default=str, ensure_ascii=False), flush=True)


def connect(stack: Stack | None = None) -> PlatformClient:
    """A client of the running stack of this home. Raises CommandError (exit 3) where none runs."""
    from deploy.local.client import Endpoints, PlatformClient

    stack = stack or Stack.require()
    query = stack.ports.url("query")
    return PlatformClient(
        Endpoints(
            ingest=stack.ports.url("ingest"),
            query=query,
            graphql=f"{query}/graphql",
            ledger=stack.ports.url("ledger"),
            stages={name: stack.ports.url(name) for name in _STAGES if name in stack.only},
        ),
        token=_ANY_TOKEN,
    )


@contextmanager
def started_stack(port_base: int | None, *, keep: bool) -> Iterator[Stack]:
    """The stack of this home, started if it did not run. Unless `keep`, what was started here is stopped."""
    stack, started = bring_up(port_base)
    try:
        yield stack
    finally:
        if started and not keep:
            bring_down(stack.layout)
        elif started:
            print("the platform still runs; ./tillstream down stops it", file=sys.stderr)


def run_postgres(script: str) -> None:
    """Statements without parameters on the running stack's warehouse."""
    import asyncpg

    async def execute() -> None:
        db = await asyncpg.connect(Stack.require().urls()["postgres"])
        try:
            await db.execute(script)
        finally:
            await db.close()

    asyncio.run(execute())


def query_postgres(statement: str, *arguments: object) -> list[dict[str, Any]]:
    """Rows of one statement on the running stack's warehouse."""
    import asyncpg

    dsn = Stack.require().urls()["postgres"]

    async def fetch() -> list[dict[str, Any]]:
        db = await asyncpg.connect(dsn)
        try:
            return [dict(row) for row in await db.fetch(statement, *arguments)]
        finally:
            await db.close()

    return asyncio.run(fetch())
