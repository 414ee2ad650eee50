"""Applies the numbered SQL files of `migrations/` to a database, each once and in order.

Protocol, for one database:
1. Take a session advisory lock, so that processes that start together apply nothing twice.
2. Create `ops.schema_migrations` if it is not there, and read what has been applied.
3. Refuse if an applied file has changed or is gone: its database can no longer be told from ours.
4. Run each new file and record it, in one transaction: a failure leaves the database at the file before.

asyncpg is a dependency of the services already; yoyo-migrations or Alembic would bring a second driver
to do the same four steps.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

import asyncpg

MIGRATIONS = Path(__file__).parent / "migrations"
_LOCK = 0x7469_6C6C  # "till"; any constant that nothing else in the database locks

_CREATE_TABLE = """
CREATE SCHEMA IF NOT EXISTS ops;
CREATE TABLE IF NOT EXISTS ops.schema_migrations (
    version    integer PRIMARY KEY,
    name       text NOT NULL,
    sha256     text NOT NULL,
    applied_at timestamptz NOT NULL DEFAULT clock_timestamp()
)
"""


class MigrationError(Exception):
    """The database and the migration files disagree; nothing was changed."""


@dataclass(frozen=True, slots=True)
class Migration:
    """One file, `NNNN_name.sql`."""

    version: int
    name: str
    sql: str

    @property
    def sha256(self) -> str:
        return hashlib.sha256(self.sql.encode()).hexdigest()


def load_migrations(folder: Path = MIGRATIONS) -> list[Migration]:
    """Read the files in order; gaps between their numbers are allowed.

    Raises `MigrationError` where a name is not NNNN_name.sql or two files have one number.
    """
    found = []
    for path in sorted(folder.glob("*.sql")):
        number, _, name = path.stem.partition("_")
        if not number.isdigit() or not name:
            raise MigrationError(f"{path.name}: a migration is named NNNN_name.sql")
        found.append(Migration(int(number), name, path.read_text(encoding="utf-8")))
    versions = [m.version for m in found]
    if twice := sorted({version for version in versions if versions.count(version) > 1}):
        raise MigrationError(f"two migrations have one number: {twice}")
    return found


def pending(migrations: list[Migration], applied: dict[int, str]) -> list[Migration]:
    """What is still to run, given the applied versions and their SHA-256."""
    known = {m.version: m for m in migrations}
    for version, sha256 in applied.items():
        if version not in known:
            raise MigrationError(
                f"the database has migration {version}, which these files lack: it belongs to a newer release"
            )
        if known[version].sha256 != sha256:
            raise MigrationError(
                f"migration {version} was changed after it was applied: restore the file, "
                "and put the change into a new one"
            )
    return [m for m in migrations if m.version not in applied]


async def migrate(dsn: str, folder: Path = MIGRATIONS) -> list[Migration]:
    """Bring the database up to date and return what was applied, in order (see the module's protocol).

    Raises `MigrationError`, or asyncpg's errors if the server is away or a file is wrong.
    """
    migrations = load_migrations(folder)
    connection = await asyncpg.connect(dsn)
    try:
        await connection.execute("SELECT pg_advisory_lock($1)", _LOCK)  # 1
        await connection.execute(_CREATE_TABLE)  # 2
        rows = await connection.fetch("SELECT version, sha256 FROM ops.schema_migrations ORDER BY version")
        todo = pending(migrations, {row["version"]: row["sha256"] for row in rows})  # 3
        for migration in todo:  # 4
            async with connection.transaction():
                await connection.execute(migration.sql)
                await connection.execute(
                    "INSERT INTO ops.schema_migrations (version, name, sha256) VALUES ($1, $2, $3)",
                    migration.version,
                    migration.name,
                    migration.sha256,
                )
        return todo
    finally:
        await connection.close()  # releases the lock
