"""Replace files of a table in one commit, beside a writer that appends.

`deltalake` takes a commit of file actions to the next free version without asking whether what it removes is
still there (its MERGE asks too much: any append makes it fail). So:

1. read the table's latest version;
2. every file to be removed must still be live there, else nothing is done (Replaced);
3. commit as exactly the next version; where an append has taken it, go on with 1.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import polars as pl
from deltalake import DeltaTable
from deltalake.exceptions import CommitFailedError
from deltalake.transaction import (
    AddAction,
    CommitProperties,
    PostCommitHookProperties,
    RemoveAction,
    Transaction,
)

# The table's writer makes the checkpoints, and `logs` removes what is expired.
HOOKS: Final = PostCommitHookProperties(create_checkpoint=False, cleanup_expired_logs=False)

_ATTEMPTS: Final = 200


class Replaced(Exception):  # noqa: N818 - reads as what happened
    """A file to be removed is no longer in the table: what was made from it is out of date."""


def files(table: DeltaTable) -> pl.DataFrame:
    """The table's live files: `path`, `size_bytes`, `num_records`, `partition.*`, `min.*`, `max.*`."""
    return pl.DataFrame(table.get_add_actions(flatten=True))


def replace_files(
    path: Path,
    removed: pl.DataFrame,
    adds: Sequence[AddAction] = (),
    *,
    marks: Mapping[str, int] | None = None,
) -> None:
    """Commit that `adds` take the place of `removed` (rows of `files`). Raises Replaced, DeltaError.

    For tables without partitions: the log may spell the folder of a partition's value in more than one way,
    and a file removed under another spelling than it was added by would stay.
    `marks`: application id -> version, kept in the table with the commit (`DeltaTable.transaction_version`).
    """
    now_ms = time.time_ns() // 1_000_000
    actions = [*(_remove(row, now_ms) for row in removed.iter_rows(named=True)), *adds]
    properties = CommitProperties(
        max_commit_retries=0,
        app_transactions=[Transaction(name, version, now_ms) for name, version in (marks or {}).items()],
    )
    if any("/" in name or "%" in name for name in removed["path"]):
        raise ValueError("only files of a table without partitions can be replaced")
    gone = set(removed["path"].to_list())
    for attempt in range(_ATTEMPTS):
        table = DeltaTable(str(path))  # 1
        if missing := gone - set(files(table)["path"].to_list()):  # 2
            raise Replaced(f"{len(missing)} of {len(gone)} files were replaced meanwhile")
        try:
            table.create_write_transaction(  # 3
                actions,
                "append",
                table.schema(),
                commit_properties=properties,
                post_commithook_properties=HOOKS,
            )
        except CommitFailedError:
            if attempt + 1 == _ATTEMPTS:
                raise
        else:
            return


def _remove(row: dict[str, Any], now_ms: int) -> RemoveAction:
    return RemoveAction(
        path=row["path"],
        data_change=True,
        deletion_timestamp=now_ms,
        size=row["size_bytes"],
        partition_values={},
    )
