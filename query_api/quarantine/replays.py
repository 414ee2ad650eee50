"""Replays: the chosen items are mended, sent through ingest, and their outcomes are counted.

    open items -> what was received -> where -> set -> ingest -> quality -> resolved, or refused again

A replay is written down before its first item is sent. It holds nothing that a crash could lose: items that
were sent are resolved or not by what quality decides, the others stay open, and the same replay may be asked
for again.
"""

from __future__ import annotations

import asyncio
import logging
import uuid
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from query_api.errors import ApiError, BadInputError, ConflictError, NotFoundError, UpstreamUnavailableError
from query_api.postgres import Store
from query_api.quarantine import mending, received
from query_api.quarantine.door import Door
from query_api.quarantine.items import Items, plain
from query_api.quarantine.journal import Journal
from query_api.quarantine.mending import Mended, Order
from schemas.codec import Codec
from schemas.registry import RegistryUnavailable
from streamkit.headers import REPLAY_LOAD

log = logging.getLogger(__name__)

MAX_IDS: Final = 10_000
_SAMPLES: Final = 20
_REPLAY: Final = "SELECT * FROM ops.quarantine_replays WHERE replay_id = $1"
_LATEST: Final = "SELECT * FROM ops.quarantine_replays ORDER BY requested_at DESC LIMIT $1"
_OUTCOMES: Final = """
SELECT outcome, count(DISTINCT item_id) AS items FROM ops.quarantine_attempts
WHERE load_id = $1 GROUP BY outcome
"""
_AGAIN: Final = """
SELECT reason, count(DISTINCT item_id) AS items, min(item_id) AS example, min(detail) AS detail
FROM ops.quarantine_attempts WHERE load_id = $1 AND outcome = 'RETRIED' GROUP BY reason ORDER BY items DESC
"""


@dataclass(frozen=True, slots=True)
class Request:
    """`item_ids` narrows the items down further, where given."""

    where: str
    assignments: Mapping[str, str] = field(default_factory=dict)
    item_ids: Sequence[str] | None = None
    requested_by: str = "unknown"


@dataclass(slots=True)
class _Progress:
    matched: int = 0
    sent: int = 0
    skipped: int = 0


class Replays:
    """One at a time: two that overlap would send the same items twice, which is harmless and no use."""

    def __init__(self, store: Store, items: Items, codec: Codec, door: Door, journal: Journal) -> None:
        self._store = store
        self._items = items
        self._codec = codec
        self._door = door
        self._journal = journal
        self._running: dict[str, asyncio.Task[None]] = {}

    async def dry_run(self, request: Request) -> dict[str, Any]:
        """What a replay would send: how many, by rule, and the first of them in full. Sends nothing."""
        order = _checked(request)
        rules: dict[str, int] = {}
        samples: list[dict[str, Any]] = []
        matched = 0
        async for part in self._mended(request, order):
            matched += len(part)
            for item in part:
                rules[item.reason] = rules.get(item.reason, 0) + 1
            samples += [_sample(item) for item in part[: _SAMPLES - len(samples)]]
        return {"dry_run": True, "matched": matched, "by_rule": rules, "items": samples}

    async def start(self, request: Request) -> dict[str, Any]:
        """Begin a replay; `status` tells how it goes. Raises `ConflictError` while another one runs."""
        order = _checked(request)
        if self._running:
            raise ConflictError(f"{next(iter(self._running))} is running: wait for its end")
        replay_id = REPLAY_LOAD + str(uuid.uuid4())
        # Taken before the first await, so that two requests cannot both pass.
        begin = asyncio.Event()
        task = asyncio.create_task(self._run(replay_id, request, order, begin))
        self._running[replay_id] = task
        try:
            await self._journal.begun(replay_id, request.where, request.assignments, request.requested_by)
        except BaseException:
            task.cancel()
            self._running.pop(replay_id, None)
            raise
        begin.set()
        return {"replay_id": replay_id, "state": "running"}

    async def status(self, replay_id: str) -> dict[str, Any]:
        """Progress and outcomes. `pending`: sent and not yet decided, or not yet in the warehouse."""
        row = await self._store.row(_REPLAY, replay_id)
        if row is None:
            raise NotFoundError(f"no replay {replay_id}")
        counts = {each["outcome"]: each["items"] for each in await self._store.rows(_OUTCOMES, replay_id)}
        resolved, again = counts.get("RESOLVED", 0), counts.get("RETRIED", 0)
        told = {
            **self._told(row),
            "resolved": resolved,
            "failed_again": again,
            "pending": max(row["sent"] - resolved - again, 0),
        }
        told["reasons"] = [plain(each) for each in await self._store.rows(_AGAIN, replay_id)] if again else []
        return told

    async def latest(self, first: int) -> list[dict[str, Any]]:
        return [self._told(row) for row in await self._store.rows(_LATEST, first)]

    async def close(self) -> None:
        """Ends what runs; its items that were not sent stay open."""
        for task in list(self._running.values()):
            task.cancel()
        await asyncio.gather(*self._running.values(), return_exceptions=True)

    def _told(self, row: Any) -> dict[str, Any]:
        told = plain(row)
        if told["state"] == "running" and told["replay_id"] not in self._running:
            told["state"], told["error"] = (
                "failed",
                "the API was restarted meanwhile: ask for the replay again",
            )
        return told

    async def _run(self, replay_id: str, request: Request, order: Order, begin: asyncio.Event) -> None:
        await begin.wait()
        progress = _Progress()
        state, error = "failed", None
        try:
            async for part in self._mended(request, order):
                progress.matched += len(part)
                await self._door.send(replay_id, part)
                progress.sent += len(part)
                await self._note(replay_id, progress, "running", None)
            state = "sent"
        except ApiError as failure:
            error = str(failure)
        except asyncio.CancelledError:
            error = "the API was stopped meanwhile: ask for the replay again"
            raise
        except Exception as failure:
            log.exception("a replay failed", extra={"replay_id": replay_id})
            error = f"internal error: {type(failure).__name__}"
        finally:
            # Written down first: what is marked as running and does not run was interrupted.
            await self._note(replay_id, progress, state, error)
            self._running.pop(replay_id, None)
        log.info("replay ended", extra={"replay_id": replay_id, "state": state, "sent": progress.sent})

    async def _note(self, replay_id: str, progress: _Progress, state: str, error: str | None) -> None:
        try:
            await self._journal.advanced(
                replay_id,
                matched=progress.matched,
                sent=progress.sent,
                skipped=progress.skipped,
                state=state,
                error=error,
            )
        except ApiError as failure:
            # The items' own outcomes are what counts; the next note brings the figures up to date.
            log.warning("a replay's progress is not written", extra={"reason": str(failure)})

    async def _mended(self, request: Request, order: Order) -> AsyncIterator[list[Mended]]:
        async for rows in self._items.open_items(request.item_ids):
            try:
                part = await asyncio.to_thread(self._mend, rows, order)
            except RegistryUnavailable as error:
                raise UpstreamUnavailableError(f"the schema registry does not answer: {error}") from error
            if part:
                yield part

    def _mend(self, rows: Sequence[Any], order: Order) -> list[Mended]:
        return mending.mend(received.read([dict(row.items()) for row in rows], self._codec), order)


def _checked(request: Request) -> Order:
    if request.item_ids is not None and len(request.item_ids) > MAX_IDS:
        raise BadInputError(f"item_ids: at most {MAX_IDS}; choose more by where")
    return mending.order(request.where, request.assignments)


def _sample(item: Mended) -> dict[str, Any]:
    return {
        "item_id": item.item_id,
        "reason": item.reason,
        "attempt": item.attempt,
        "changed": {name: {"from": before, "to": after} for name, (before, after) in item.changed.items()},
        "sale": item.sale,
    }
