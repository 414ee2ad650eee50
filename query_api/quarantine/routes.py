"""REST under `/api/v1/quarantine`: what was refused, and its replay."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any

import orjson
from fastapi import APIRouter, Body, Query
from pydantic import BaseModel, ConfigDict, Field
from starlette.requests import Request as HttpRequest
from starlette.responses import Response

from query_api.errors import BadInputError
from query_api.quarantine.guard import Guard
from query_api.quarantine.items import Items
from query_api.quarantine.replays import Replays, Request

State = Annotated[str, Query(description="open or resolved")]
First = Annotated[int, Query(ge=1, le=1_000)]
_MAX_NAME = 100


class ReplayRequest(BaseModel):
    """Which open items to replay, and what to set in them."""

    model_config = ConfigDict(extra="forbid")

    where: str = Field(
        "true",
        description="SQL expression over the item and the sale in it",
        examples=["reason = 'NEGATIVE_QUANTITY' AND country = 'EIRE'"],
    )
    set_: dict[str, str] = Field(
        default_factory=dict,
        alias="set",
        description="field -> SQL expression over the item as it was received",
        examples=[{"quantity": "abs(quantity)"}],
    )
    item_ids: list[str] | None = Field(None, description="only these")
    dry_run: bool = Field(False, description="say what would be sent, and send nothing")


@dataclass(frozen=True, slots=True)
class Quarantine:
    items: Items
    replays: Replays
    guard: Guard


class AllowRequest(BaseModel):
    """Records that the guard shall let through."""

    model_config = ConfigDict(extra="forbid")

    reason: str | None = Field(description="a rule's name; null for all", max_length=_MAX_NAME)


def router(quarantine: Quarantine) -> APIRouter:
    routes = APIRouter(prefix="/api/v1/quarantine", tags=["quarantine"])
    _looking(routes, quarantine.items)
    _replaying(routes, quarantine.replays)
    _guarding(routes, quarantine.guard)
    return routes


def _looking(routes: APIRouter, items: Items) -> None:
    @routes.get("/groups")
    async def groups(
        by: Annotated[str, Query(description="of rule, source, stage, hour, day")] = "rule,source",
        state: State = "open",
        first: First = 200,
    ) -> Response:
        """Items grouped, the largest groups first."""
        return _json({"items": await items.groups([key for key in by.split(",") if key], state, first)})

    @routes.get("/items")
    async def listed(
        state: State = "open",
        rule: str | None = None,
        source: str | None = None,
        first: First = 50,
        after: str | None = None,
    ) -> Response:
        """The newest first."""
        return _json(await items.listed(state, rule, source, first, after))

    @routes.get("/items/{id}")
    async def shown(id: str) -> Response:
        """By item id or event id: the original bytes and every attempt."""
        return _json({"items": await items.shown(id)})


def _replaying(routes: APIRouter, replays: Replays) -> None:
    @routes.post("/replays", status_code=202)
    async def replay(http: HttpRequest, asked: Annotated[ReplayRequest, Body()]) -> Response:
        """Mend open items and send them through ingest again, under their event ids."""
        _only_json(http)
        request = Request(asked.where, asked.set_, asked.item_ids, _who(http))
        if asked.dry_run:
            return _json(await replays.dry_run(request))
        return _json(await replays.start(request), 202)

    @routes.get("/replays")
    async def latest(first: First = 20) -> Response:
        """The latest first."""
        return _json({"items": await replays.latest(first)})

    @routes.get("/replays/{replay_id}")
    async def status(replay_id: str) -> Response:
        """How many were sent, resolved, refused again (and why), and are pending."""
        return _json(await replays.status(replay_id))


def _guarding(routes: APIRouter, guard: Guard) -> None:
    @routes.get("/guard")
    async def told() -> Response:
        """Which version judges, since when, and what it has paused."""
        return _json(await guard.told())

    @routes.post("/guard/allow")
    async def allow(http: HttpRequest, asked: Annotated[AllowRequest, Body()]) -> Response:
        """Let records that the guard holds back into quarantine, as long as this version runs."""
        _only_json(http)
        return _json(await guard.allow(asked.reason, _who(http)))


def _only_json(http: HttpRequest) -> None:
    """A form of another site's page can post anything but JSON without asking."""
    if not http.headers.get("content-type", "").startswith("application/json"):
        raise BadInputError("send the request as application/json")


def _who(http: HttpRequest) -> str:
    """For the record, not for rights: who says that they are asking, and from where."""
    name = http.headers.get("x-requested-by", "").strip()[:_MAX_NAME]
    return name or (http.client.host if http.client else "unknown")


def _json(body: dict[str, Any], status: int = 200) -> Response:
    return Response(orjson.dumps(body), status_code=status, media_type="application/json")
