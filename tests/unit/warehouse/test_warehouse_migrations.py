"""What the migration runner would do."""

from __future__ import annotations

from pathlib import Path

import pytest

from deploy.postgres.migrate import Migration, MigrationError, load_migrations, pending

ONE = Migration(1, "one", "SELECT 1")
TWO = Migration(2, "two", "SELECT 2")


def test_shipped_files_are_in_the_order_of_their_numbers() -> None:
    versions = [m.version for m in load_migrations()]
    assert versions[0] == 1
    assert versions == sorted(set(versions))


def test_gap_between_numbers_is_no_mistake(tmp_path: Path) -> None:
    for name in ("0001_one.sql", "0010_ten.sql"):
        (tmp_path / name).write_text("SELECT 1")
    assert [m.version for m in load_migrations(tmp_path)] == [1, 10]


def test_only_new_files_are_applied() -> None:
    assert pending([ONE, TWO], {}) == [ONE, TWO]
    assert pending([ONE, TWO], {1: ONE.sha256}) == [TWO]
    assert pending([ONE, TWO], {1: ONE.sha256, 2: TWO.sha256}) == []


def test_changed_file_is_refused() -> None:
    with pytest.raises(MigrationError, match="migration 1 was changed"):
        pending([ONE], {1: TWO.sha256})


def test_database_of_a_newer_release_is_refused() -> None:
    with pytest.raises(MigrationError, match="newer release"):
        pending([ONE], {1: ONE.sha256, 2: TWO.sha256})


@pytest.mark.parametrize("names", [["0001_a.sql", "0001_b.sql"], ["one.sql"], ["0001.sql"]])
def test_files_without_a_clear_order_are_refused(tmp_path: Path, names: list[str]) -> None:
    for name in names:
        (tmp_path / name).write_text("SELECT 1")
    with pytest.raises(MigrationError):
        load_migrations(tmp_path)
