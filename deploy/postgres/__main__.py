"""`python -m deploy.postgres migrate --dsn DSN`: create or update the platform's schemas."""

from __future__ import annotations

import argparse
import asyncio
import os
import sys

import asyncpg

from deploy.postgres.migrate import MigrationError, migrate


def main(argv: list[str] | None = None) -> int:
    """Exit code 0: up to date. 1: failed, with the reason on standard error. 2: wrong usage."""
    parser = argparse.ArgumentParser(prog="python -m deploy.postgres", description=__doc__)
    verbs = parser.add_subparsers(dest="verb", required=True)
    verb = verbs.add_parser("migrate", help="apply the migrations that the database does not have yet")
    verb.add_argument(
        "--dsn", default=os.environ.get("TILLSTREAM_POSTGRES"), help="default: TILLSTREAM_POSTGRES"
    )
    arguments = parser.parse_args(argv)
    if not arguments.dsn:
        parser.error("--dsn or TILLSTREAM_POSTGRES is needed")
    try:
        applied = asyncio.run(migrate(arguments.dsn))
    except (MigrationError, OSError, asyncpg.PostgresError, asyncpg.InterfaceError) as error:
        print(f"migrate: {error}", file=sys.stderr)
        return 1
    for migration in applied:
        print(f"applied {migration.version:04d} {migration.name}")
    if not applied:
        print("up to date")
    return 0


if __name__ == "__main__":
    sys.exit(main())
