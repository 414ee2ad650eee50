"""The database's side of change data capture: the connectors' role, and what is known of their slot."""

from __future__ import annotations

from dataclasses import dataclass

import asyncpg

from deploy.connect import DATABASE_ROLE, SLOT

_SLOT_SQL = """
SELECT active, wal_status,
       pg_wal_lsn_diff(pg_current_wal_lsn(), confirmed_flush_lsn)::float8 AS lag_bytes,
       pg_wal_lsn_diff(pg_current_wal_lsn(), restart_lsn)::float8 AS retained_bytes,
       safe_wal_size::float8 AS safe_bytes,
       (SELECT extract(epoch FROM clock_timestamp() - at)::float8 FROM ops.cdc_heartbeat) AS heartbeat_age_s
FROM pg_replication_slots WHERE slot_name = $1 AND database = current_database()
"""


@dataclass(frozen=True, slots=True)
class Slot:
    """`lag_bytes`: written and not yet confirmed; `retained_bytes`: log kept on disk for it.

    `safe_bytes`: how much more may be written before it is given up. None where the server does not say.
    """

    active: bool
    wal_status: str
    lag_bytes: float | None
    retained_bytes: float | None
    safe_bytes: float | None
    heartbeat_age_s: float | None

    @property
    def lost(self) -> bool:
        return self.wal_status == "lost"


async def prepare(dsn: str, password: str) -> None:
    """The connectors' role: it may replicate, read `shop`, and write the heartbeat. Idempotent.

    A role belongs to the whole server and its password to this installation, so no migration makes it.
    """
    db = await asyncpg.connect(dsn)
    try:
        async with db.transaction():
            # Two that start at once must not both find it missing.
            await db.execute("SELECT pg_advisory_xact_lock(hashtext('tillstream cdc role'))")
            known = await db.fetchval("SELECT 1 FROM pg_roles WHERE rolname = $1", DATABASE_ROLE)
            statement = f"{'ALTER' if known else 'CREATE'} ROLE {DATABASE_ROLE} LOGIN REPLICATION PASSWORD %L"
            await db.execute(await db.fetchval("SELECT format($1, $2::text)", statement, password))
            await db.execute(
                f"GRANT USAGE ON SCHEMA shop, ops TO {DATABASE_ROLE};"
                f"GRANT SELECT ON ALL TABLES IN SCHEMA shop TO {DATABASE_ROLE};"
                f"GRANT SELECT, INSERT, UPDATE ON ops.cdc_heartbeat TO {DATABASE_ROLE}"
            )
    finally:
        await db.close()


async def slot(db: asyncpg.Connection, name: str = SLOT) -> Slot | None:
    """None while there is none: the connector makes it when it first starts."""
    row = await db.fetchrow(_SLOT_SQL, name)
    return None if row is None else Slot(**dict(row))
