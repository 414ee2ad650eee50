"""What is in quarantine, from `ops.quarantine`: grouped, listed, one by one, and in bulk for a replay."""

from __future__ import annotations

import base64
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any, Final

from query_api import cursors
from query_api.errors import BadInputError, NotFoundError
from query_api.postgres import Row, Store
from query_api.values import datetime_text, decimal_text

STATES: Final = ("OPEN", "RESOLVED")
GROUPS: Final[Mapping[str, str]] = {
    "rule": "reason",
    "source": "source_system",
    "stage": "stage",
    "hour": "date_trunc('hour', quarantined_ts)",
    "day": "date_trunc('day', quarantined_ts)",
}
"""By what items can be grouped, and its SQL."""
_BULK_BYTES: Final = 16 << 20
_BULK_ROWS: Final = 2_000
_PAYLOAD_SHOWN: Final = 10_000

_GROUPED: Final = """
SELECT {keys}, count(*) AS items, sum(amount) AS amount, max(attempts) AS attempts,
       min(quarantined_ts) AS first, max(quarantined_ts) AS last, min(item_id) AS example
FROM ops.quarantine WHERE state = $1 GROUP BY {places} ORDER BY items DESC, {places} LIMIT $2
"""
_LISTED: Final = """
SELECT item_id, state, stage, event_id, reason, rules, detail, source_system, load_id, ordinal, amount,
       currency, ingest_ts, quarantined_ts, attempts, last_reason, last_detail, resolved_ts
FROM ops.quarantine
WHERE state = $1 AND ($2::text IS NULL OR reason = $2) AND ($3::text IS NULL OR source_system = $3)
  AND ($4::timestamptz IS NULL OR (quarantined_ts, item_id) < ($4, $5))
ORDER BY quarantined_ts DESC, item_id DESC LIMIT $6
"""
_ONE: Final = """
SELECT * FROM ops.quarantine WHERE item_id = $1 OR event_id = $1 ORDER BY quarantined_ts LIMIT 99
"""
_ATTEMPTS: Final = """
SELECT load_id AS replay_id, outcome, stage, event_id, reason, detail, at FROM ops.quarantine_attempts
WHERE item_id = $1 ORDER BY quarantine_offset LIMIT 100
"""
_NEXT_IDS: Final = """
SELECT item_id, octet_length(payload) AS bytes FROM ops.quarantine
WHERE state = 'OPEN' AND item_id > $1 AND ($2::text[] IS NULL OR item_id = ANY ($2))
ORDER BY item_id LIMIT $3
"""
_BULK: Final = """
SELECT item_id, stage, event_id, reason, detail, source_system, load_id, ordinal, attempts, currency,
       ingest_ts, quarantined_ts, payload, payload_format, context
FROM ops.quarantine WHERE item_id = ANY ($1) AND state = 'OPEN' ORDER BY item_id
"""


class Items:
    def __init__(self, store: Store) -> None:
        self._store = store

    async def groups(self, by: Sequence[str], state: str, first: int) -> list[dict[str, Any]]:
        """Open or resolved items by rule, source, stage, hour or day; the largest groups first."""
        if not by or (unknown := [key for key in by if key not in GROUPS]):
            raise BadInputError(
                f"by: give one or more of {', '.join(GROUPS)}, not {', '.join(unknown) or 'none'}"
            )
        keys = ", ".join(f'{GROUPS[key]} AS "{key}"' for key in by)
        places = ", ".join(str(place) for place in range(1, len(by) + 1))
        sql = _GROUPED.format(keys=keys, places=places)
        return [plain(row) for row in await self._store.rows(sql, _state(state), first)]

    async def listed(
        self, state: str, rule: str | None, source: str | None, first: int, after: str | None
    ) -> dict[str, Any]:
        """A page of items, the newest first; `next` is the cursor of the one after it, or None."""
        at, item_id = _cursor(after) if after else (None, None)
        found = await self._store.rows(_LISTED, _state(state), rule, source, at, item_id, first + 1)
        more = len(found) > first
        following = None
        if more and first:
            last = found[first - 1]
            following = cursors.encode(cursors.SaleCursor(last["quarantined_ts"], last["item_id"]))
        return {"items": [plain(row) for row in found[:first]], "next": following}

    async def shown(self, some_id: str) -> list[dict[str, Any]]:
        """The items of an item id or event id, with their bytes and attempts. Raises `NotFoundError`."""
        found = await self._store.rows(_ONE, some_id)
        if not found:
            raise NotFoundError(f"no quarantined item {some_id}")
        return [await self._whole(row) for row in found]

    async def _whole(self, row: Row) -> dict[str, Any]:
        columns = dict(row.items())
        payload = bytes(columns.pop("payload"))
        attempts = await self._store.rows(_ATTEMPTS, row["item_id"])
        return {
            **plain(columns),
            "payload_base64": base64.b64encode(payload).decode(),
            "payload_text": payload[:_PAYLOAD_SHOWN].decode("utf-8", "backslashreplace"),
            "history": [plain(attempt) for attempt in attempts],
        }

    async def open_items(self, only: Sequence[str] | None) -> AsyncIterator[Sequence[Row]]:
        """Open items in the order of their ids, in parts that fit into memory; `only` these, where given."""
        last = ""
        while True:
            asked = None if only is None else list(only)
            sizes = await self._store.rows(_NEXT_IDS, last, asked, _BULK_ROWS)
            if not sizes:
                return
            part = _within(sizes, _BULK_BYTES)
            last = part[-1]
            yield await self._store.rows(_BULK, part)


def plain(row: Mapping[str, Any] | Row) -> dict[str, Any]:
    """A row for JSON: amounts and times as text."""
    return {name: _plain(value) for name, value in row.items()}


def _plain(value: Any) -> Any:
    if hasattr(value, "isoformat"):
        return datetime_text(value)
    return decimal_text(value) if hasattr(value, "quantize") else value


def _state(text: str) -> str:
    if text.upper() not in STATES:
        raise BadInputError(f"state: open or resolved, not {text!r}")
    return text.upper()


def _cursor(text: str) -> cursors.SaleCursor:
    """Its two fields are a time and an id, whatever is listed."""
    try:
        return cursors.decode(text)
    except cursors.BadCursorError as error:
        raise BadInputError(f"after: {error}") from None


def _within(sizes: Sequence[Row], most: int) -> list[str]:
    """The first ids whose bytes fit; one at least."""
    taken: list[str] = []
    total = 0
    for row in sizes:
        total += row["bytes"]
        if taken and total > most:
            break
        taken.append(row["item_id"])
    return taken
