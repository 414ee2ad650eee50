"""The migration runner on a real Postgres."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from deploy.postgres.migrate import MigrationError, load_migrations, migrate
from tests.integration.warehouse_bench import Warehouse, with_database

pytestmark = pytest.mark.integration


@pytest.fixture
def empty(stack: Any) -> Iterator[Warehouse]:
    server, name = Warehouse(stack.postgres), f"migrate_{uuid.uuid4().hex[:12]}"
    server.run(f"CREATE DATABASE {name}")
    yield Warehouse(with_database(stack.postgres, name))
    server.run(f"DROP DATABASE {name} WITH (FORCE)")


def test_second_run_applies_nothing(empty: Warehouse) -> None:
    assert asyncio.run(migrate(empty.dsn)) == load_migrations()
    assert asyncio.run(migrate(empty.dsn)) == []


def test_runs_at_the_same_time_apply_each_file_once(empty: Warehouse) -> None:
    async def together() -> list[int]:
        runs = await asyncio.gather(*(migrate(empty.dsn) for _ in range(4)))
        return sorted(m.version for applied in runs for m in applied)

    assert asyncio.run(together()) == [m.version for m in load_migrations()]


def test_failed_file_leaves_the_database_at_the_file_before(empty: Warehouse, tmp_path: Path) -> None:
    (tmp_path / "0001_good.sql").write_text("CREATE TABLE good ()")
    (tmp_path / "0002_bad.sql").write_text("CREATE TABLE half (); SELECT no_such_function()")
    with pytest.raises(asyncpg.UndefinedFunctionError):
        asyncio.run(migrate(empty.dsn, tmp_path))
    tables = "SELECT to_regclass('good')::text, to_regclass('half')::text"
    assert empty.rows(tables) == [("good", None)]
    assert empty.rows("SELECT version FROM ops.schema_migrations") == [(1,)]
    (tmp_path / "0002_bad.sql").write_text("CREATE TABLE half ()")
    assert [m.version for m in asyncio.run(migrate(empty.dsn, tmp_path))] == [2]


def test_changed_file_is_refused_and_nothing_changes(empty: Warehouse, tmp_path: Path) -> None:
    (tmp_path / "0001_one.sql").write_text("CREATE TABLE one ()")
    asyncio.run(migrate(empty.dsn, tmp_path))
    (tmp_path / "0001_one.sql").write_text("CREATE TABLE two ()")
    with pytest.raises(MigrationError, match="changed after it was applied"):
        asyncio.run(migrate(empty.dsn, tmp_path))
    assert empty.rows("SELECT to_regclass('two')::text") == [(None,)]
